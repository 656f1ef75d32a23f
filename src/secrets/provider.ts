import { z } from "zod";
import { type Ask, misconfigured } from "../cloud/ask.ts";

/** What a store is asked with. */
export interface SecretContext {
  readonly ask: Ask;
  /** `$NAME` of the job's variables in place. */
  expand(text: string): string;
  /** Value of a variable of the job. */
  get(name: string): string | undefined;
  /** From now on these must not show. */
  hide(secrets: readonly string[]): void;
  /** Logs in once for all secrets of the job that want the same. @returns the token */
  once(key: string, logIn: () => Promise<string>): Promise<string>;
  /** Hosts that may be asked over plain HTTP, this one included: `host` or `host:port`. */
  readonly plainHttpHosts: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/**
 * One kind of store.
 * @param wanted the job's own words
 * @returns `null`: the store has no such secret
 * @throws {SystemFailure}
 */
export type Provider = (wanted: unknown, context: SecretContext, signal: AbortSignal) => Promise<string | null>;

/** Text that may be absent. */
export const optional = z
  .union([z.string(), z.number(), z.null()])
  .optional()
  .transform((value) => (value === null || value === undefined ? "" : String(value)));
export const needed = z.union([z.string().min(1, "is empty"), z.number().transform(String)]);

/** @throws {SystemFailure} names what is missing, and none of the values */
export function read<T>(schema: z.ZodType<T>, wanted: unknown): T {
  const parsed = schema.safeParse(wanted);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw misconfigured(`the job does not say ${issue?.path.join(".") ?? "enough"}: ${issue?.message ?? ""}`);
}

/** @throws {SystemFailure} secrets would be sent in the clear, or it is no address */
export function addressOf(text: string, { plainHttpHosts }: Pick<SecretContext, "plainHttpHosts">): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) throw misconfigured("its server's url is no address");
  const named = plainHttpHosts.includes(url.host) || plainHttpHosts.includes(url.hostname);
  if (url.protocol === "http:" && !named) {
    throw misconfigured(
      `${url.host} would be asked over plain HTTP; use https, or have its operator name it in plain_http_secret_servers`,
    );
  }
  return url;
}

/**
 * Below an address that may have a path of its own; parts are cleaned and encoded.
 * @throws {SystemFailure} a part leads above where it begins
 */
export function below(base: URL, ...parts: readonly string[]): URL {
  const url = new URL(base.origin);
  url.pathname = `${base.pathname.replace(/\/+$/, "")}/${parts.flatMap(cleaned).join("/")}`;
  return url;
}

function cleaned(part: string): string[] {
  const segments: string[] = [];
  for (const segment of part.split("/")) {
    if (segment === "..") {
      if (segments.pop() === undefined)
        throw misconfigured(`the path ${JSON.stringify(part.slice(0, 100))} leads above`);
    } else if (segment !== "" && segment !== ".") segments.push(encodeURIComponent(segment));
  }
  return segments;
}

/** A token out of the job's variables, hidden from now on. @throws {SystemFailure} it is empty */
export function tokenIn(text: string, { expand, hide }: Pick<SecretContext, "expand" | "hide">): string {
  const token = expand(text).trim();
  if (token !== "") {
    hide([token]);
    return token;
  }
  throw misconfigured(`its token ${/^\$\w+$/.test(text) ? `${text} ` : ""}is empty; does the job have id_tokens?`);
}

/** A member of a secret as a variable holds it: numbers as they were written. */
export function memberText(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
