import type { TokenLife } from "../config/config.ts";

/** What part of its life a token is used for. */
const USED_SHARE = 0.75;

/** When a token is to be exchanged, `Date.now()`; `null`: never. One that is overdue names a time that has passed. */
export function exchangeAt(
  { obtainedAtMs, expiresAtMs }: Pick<TokenLife, "obtainedAtMs" | "expiresAtMs">,
  seenAtMs: number,
): number | null {
  if (expiresAtMs === null) return null;
  const from = obtainedAtMs ?? seenAtMs;
  return from >= expiresAtMs ? expiresAtMs : from + USED_SHARE * (expiresAtMs - from);
}
