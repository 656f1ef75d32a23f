import type { ExchangedToken, TokenLife } from "../config.ts";

/** Keys of an entry that say whose its token is and how long it lives, lower case. */
export const TOKEN_KEYS: ReadonlySet<string> = new Set([
  "token",
  "id",
  "known_as",
  "token_obtained_at",
  "token_expires_at",
  "rotate_token",
]);

interface Written {
  readonly id?: unknown;
  readonly token_obtained_at?: unknown;
  readonly token_expires_at?: unknown;
  readonly rotate_token: boolean;
}

/** What the file says of an entry's token. What makes no sense there costs no job: it is a warning, and not known. */
export function readTokenLife(
  settings: Written,
  warn: (key: string, text: string) => void,
): Omit<TokenLife, "written"> {
  const time = (key: "token_obtained_at" | "token_expires_at"): number | null => {
    const value = settings[key];
    const ms = timeOf(value);
    if (ms === undefined) warn(key, "has no effect: expected a date with a time, such as 2027-01-02T03:04:05Z");
    return ms ?? null;
  };
  return {
    runnerId: idOf(settings.id),
    obtainedAtMs: time("token_obtained_at"),
    expiresAtMs: time("token_expires_at"),
    rotates: settings.rotate_token,
  };
}

/** What an exchange says instead of the file that does not know of it yet. */
export function lifeOf(exchanged: ExchangedToken | undefined): Partial<TokenLife> {
  if (exchanged === undefined) return {};
  return { obtainedAtMs: exchanged.obtainedAtMs, expiresAtMs: exchanged.expiresAtMs };
}

function idOf(value: unknown): string {
  if (typeof value === "string") return value.trim();
  return typeof value === "number" || typeof value === "bigint" ? String(value) : "";
}

/** `null` for what GitLab Runner writes for "never", the first moment of the first year; `undefined` for no time at all. */
export function timeOf(value: unknown): number | null | undefined {
  if (value === undefined || value === null || value === "") return null;
  const ms = value instanceof Date ? value.getTime() : typeof value === "string" ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(ms)) return undefined;
  return new Date(ms).getUTCFullYear() <= 1 ? null : ms;
}
