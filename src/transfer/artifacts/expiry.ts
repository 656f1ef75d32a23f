/** `expire_in` as AlloyCI understands it. */

const SECONDS: readonly (readonly [units: readonly string[], seconds: number])[] = [
  [["s", "sec", "secs", "second", "seconds"], 1],
  [["m", "min", "mins", "minute", "minutes"], 60],
  [["h", "hr", "hrs", "hour", "hours"], 3600],
  [["d", "dy", "dys", "day", "days"], 86_400],
  [["w", "wk", "wks", "week", "weeks"], 604_800],
  [["mo", "mos", "mon", "mons", "mth", "mths", "month", "months"], 2_592_000],
  [["y", "yr", "yrs", "year", "years"], 31_557_600],
];
const UNITS: ReadonlyMap<string, number> = new Map(
  SECONDS.flatMap(([units, seconds]) => units.map((unit) => [unit, seconds] as const)),
);
/** AlloyCI has no word for "never", so a hundred years are sent. */
const NEVER_SECONDS = 100 * 31_557_600;

/**
 * AlloyCI takes a number without a unit, and `never`, for no time at all, and fails on decimals; so it is sent whole
 * seconds.
 * @returns empty for what means nothing: then AlloyCI keeps artifacts for 7 days
 */
export function expiryForAlloy(text: string): { readonly expireIn: string; readonly warning?: string } {
  const trimmed = text.trim().toLowerCase();
  if (trimmed === "") return { expireIn: "" };
  if (trimmed === "never") return { expireIn: `${NEVER_SECONDS} sec` };
  if (/^\d{1,12}$/.test(trimmed)) return { expireIn: `${Math.min(Number(trimmed), NEVER_SECONDS)} sec` };
  const rest = trimmed.replace(/\band\b|,/g, " ");
  const part = /\s*(\d{1,9}(?:\.\d{1,6})?)\s*([a-z]+)\s*/y;
  let seconds = 0;
  while (part.lastIndex < rest.length) {
    const at = part.lastIndex;
    const [, count, unit] = part.exec(rest) ?? [];
    const factor = UNITS.get(unit ?? "");
    if (count === undefined || factor === undefined) {
      if (rest.slice(at).trim() === "" && at > 0) break;
      const shown = JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
      return { expireIn: "", warning: `expire_in is ${shown}, which is no time span such as "2 days": 7 days it is.` };
    }
    seconds += Number(count) * factor;
  }
  return { expireIn: `${Math.min(Math.max(Math.round(seconds), 1), NEVER_SECONDS)} sec` };
}
