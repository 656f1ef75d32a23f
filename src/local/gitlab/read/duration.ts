/** Durations as GitLab's library for them reads them: `1h 30m`, `2 hrs 20 min`, `one hour`, `10:30`, `42`. */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const UNITS = new Map<string, number>(
  (
    [
      [1, "s sec secs second seconds"],
      [MINUTE, "m min mins minute minutes"],
      [HOUR, "h hr hrs hour hours"],
      [DAY, "d day days"],
      [7 * DAY, "w wk wks week weeks"],
      [30 * DAY, "mo mos month months"],
      [365.25 * DAY, "y yr yrs year years"],
    ] as const
  ).flatMap(([seconds, words]) => words.split(" ").map((word) => [word, seconds] as const)),
);

const NUMBERS = new Map(
  "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
    .split(" ")
    .map((word, value) => [word, value] as const),
);
for (const [index, word] of "thirty forty fifty sixty seventy eighty ninety".split(" ").entries())
  NUMBERS.set(word, 30 + 10 * index);

const JOINED = new Set(["and", "with", "plus"]);

/** Seconds, or `undefined` where GitLab sees no duration. */
export function durationSeconds(text: string): number | undefined {
  const clean = text.trim().toLowerCase();
  if (/^\d+(?::\d+){1,6}(?:\.\d+)?$/.test(clean)) {
    const parts = clean.split(":").map(Number).toReversed();
    const sizes = [1, MINUTE, HOUR, DAY, 7 * DAY, 30 * DAY, 365.25 * DAY];
    return positive(parts.reduce((sum, part, index) => sum + part * (sizes[index] ?? 0), 0));
  }
  const words = clean.match(/\d+(?:\.\d+)?|[a-z]+|[^\s,]/g) ?? [];
  let seconds = 0;
  let number: number | undefined;
  for (const word of words) {
    const value = /^\d/.test(word) ? Number(word) : NUMBERS.get(word);
    const unit = UNITS.get(word);
    if (value !== undefined) {
      if (number !== undefined) seconds += number;
      number = value;
    } else if (unit !== undefined && number !== undefined) {
      seconds += number * unit;
      number = undefined;
    } else if (!JOINED.has(word)) return undefined;
  }
  return positive(seconds + (number ?? 0));
}

function positive(seconds: number): number | undefined {
  return seconds > 0 ? Math.round(seconds) : undefined;
}
