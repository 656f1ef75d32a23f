/** One reading of each kind of setting, with what is said when a value is bad. */
export interface SettingsReader {
  readonly warnings: readonly string[];
  readonly problems: readonly string[];
  warn(sentence: string): void;
  /** Trimmed; `undefined` where it is not set or empty. */
  text(key: string): string | undefined;
  /** Go's booleans, in any case: 1, t, true, 0, f, false. */
  flag(key: string, fallback: boolean): boolean;
  /** A whole number ≥ 0. */
  count(key: string, fallback: number): number;
  /** One of `choices`; another value is a warning and `fallback`. */
  choice<T extends string>(key: string, choices: readonly T[], fallback: T): T;
  /** One of `choices`; another value is a problem. */
  required<T extends string>(key: string, choices: readonly T[], fallback: T): T;
  /** 1–10, by default `fallback`, or 1; outside of it is a problem. */
  attempts(key: string, fallback?: number): number;
  /** Counts that steer nothing here, which is said once; a negative one is a problem. */
  unused(keys: readonly string[], why: string): void;
  /** Words between blanks. */
  words(key: string): string[];
  /** Options for git: `none` is none; values that are no plain options, or that name a program or are `refused`, are not taken. */
  gitFlags(key: string, fallback: readonly string[], refused?: RegExp): readonly string[];
  /** Arguments of `git clean`, by default `-ffdx`; `null` for `none`. */
  cleanFlags(key: string): readonly string[] | null;
}

/** Go's booleans, in any case. */
export function parseFlag(text: string): boolean | undefined {
  if (/^(?:1|t|true)$/i.test(text)) return true;
  return /^(?:0|f|false)$/i.test(text) ? false : undefined;
}

export function createSettingsReader(get: (key: string) => string | undefined): SettingsReader {
  const warnings: string[] = [];
  const problems: string[] = [];
  const text = (key: string): string | undefined => {
    const value = get(key)?.trim();
    return value === "" ? undefined : value;
  };
  const quote = (value: string): string => JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}…` : value);
  const bad = (key: string, value: string, expected: string, instead: string): void => {
    const sentence = `${key} is ${quote(value)}, expected is ${expected}; ${instead} is used.`;
    if (!warnings.includes(sentence)) warnings.push(sentence);
  };
  const find = <T extends string>(value: string, choices: readonly T[]): T | undefined =>
    choices.find((choice) => choice === value.toLowerCase());
  const words = (key: string): string[] => text(key)?.split(/\s+/) ?? [];

  return {
    warnings,
    problems,
    warn: (sentence) => void warnings.push(sentence),
    text,
    flag(key, fallback) {
      const value = text(key);
      if (value === undefined) return fallback;
      const said = parseFlag(value);
      if (said === undefined) bad(key, value, "true or false", String(fallback));
      return said ?? fallback;
    },
    count(key, fallback) {
      const value = text(key);
      if (value === undefined) return fallback;
      if (/^\d{1,9}$/.test(value)) return Number(value);
      bad(key, value, "a number of commits", "the whole history");
      return 0;
    },
    choice(key, choices, fallback) {
      const value = text(key);
      if (value === undefined) return fallback;
      const found = find(value, choices);
      if (found === undefined) bad(key, value, `one of ${choices.join(", ")}`, fallback);
      return found ?? fallback;
    },
    required(key, choices, fallback) {
      const value = text(key);
      if (value === undefined) return fallback;
      const found = find(value, choices);
      if (found === undefined) problems.push(`${key} is ${quote(value)}, expected is one of ${choices.join(", ")}.`);
      return found ?? fallback;
    },
    attempts(key, fallback = 1) {
      const value = text(key);
      if (value === undefined) return fallback;
      if (!/^[+-]?\d+$/.test(value)) {
        bad(key, value, "a number from 1 to 10", String(fallback));
        return fallback;
      }
      const attempts = Number(value);
      if (attempts >= 1 && attempts <= 10) return attempts;
      problems.push(`${key} is ${quote(value)}, expected is a number from 1 to 10.`);
      return fallback;
    },
    unused(keys, why) {
      const set = keys.flatMap((key) => ((text(key) ?? "0") === "0" ? [] : [{ key, value: text(key) ?? "" }]));
      const negative = set.filter(({ value }) => /^-\d*[1-9]/.test(value));
      for (const { key, value } of negative)
        problems.push(`${key} is ${quote(value)}, expected is a number from 0 on.`);
      if (set.length > negative.length) warnings.push(`${set.map(({ key }) => key).join(", ")}: no effect, ${why}.`);
    },
    words,
    gitFlags(key, fallback, refusedToo) {
      const flags = words(key);
      if (flags.length === 0) return fallback;
      if (flags.length === 1 && flags[0] === "none") return [];
      const refused = flags.find(
        (flag) =>
          !/^(?:-[A-Za-z0-9-]+(?:=[\w.,:/+%@=-]*)?|\d+)$/.test(flag) ||
          /^--upl/.test(flag) ||
          refusedToo?.test(flag) === true,
      );
      if (refused === undefined) return flags;
      bad(key, refused, "a list of options that name no program", fallback.length === 0 ? "none" : fallback.join(" "));
      return fallback;
    },
    cleanFlags(key) {
      const flags = words(key);
      if (flags.length === 0) return ["-ffdx"];
      return flags.length === 1 && flags[0] === "none" ? null : flags;
    },
  };
}
