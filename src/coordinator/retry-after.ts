/** Longest wait that a coordinator can ask for. */
const LONGEST_MS = 5 * 60_000;

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/**
 * How long the coordinator asks to be left alone, in milliseconds: `RateLimit-ResetTime` (HTTP date), else `Retry-After`
 * (seconds or HTTP date). Dates count from the answer's own `Date`, so that a clock that is wrong on either side does no
 * harm. Never more than 5 minutes; `undefined` if it asks for nothing sensible.
 */
export function retryAfter(headers: Headers): number | undefined {
  return (
    untilDate(first(headers["ratelimit-resettime"]), headers) ?? afterSeconds(first(headers["retry-after"]), headers)
  );
}

function afterSeconds(value: string | undefined, headers: Headers): number | undefined {
  if (value === undefined) return undefined;
  if (/^\s*\d+(\.\d+)?\s*$/.test(value)) return Math.min(Number(value) * 1000, LONGEST_MS);
  return untilDate(value, headers);
}

function untilDate(value: string | undefined, headers: Headers): number | undefined {
  if (value === undefined || !/[a-z]/i.test(value)) return undefined;
  const until = Date.parse(value);
  if (Number.isNaN(until)) return undefined;
  const answered = Date.parse(first(headers.date) ?? "");
  const waitMs = until - (Number.isNaN(answered) ? Date.now() : answered);
  return waitMs <= 0 ? undefined : Math.min(waitMs, LONGEST_MS);
}

export function first(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" ? value : value?.[0];
}
