/** A pattern of the operator's for what a job may set: it has to cover the whole value. */
export interface Pattern {
  /** As it was written. */
  readonly text: string;
  matches(value: string): boolean;
  /** Whether it fits a part of the value, which other runners of the family take for a match. */
  matchesPart(value: string): boolean;
}

/** Patterns are tried on no longer values: a job must not be able to make one run for minutes. */
export const LONGEST_VALUE = 253;

/** Patterns come from Go's RE2. `null`: it is none, or one that has no counterpart here. */
export function parsePattern(text: string): Pattern | null {
  const [, given = "", rest = text] = /^\(\?([ims]+)\)(.*)$/s.exec(text) ?? [];
  const flags = [...new Set(given)].join("");
  const source = rest.replace(/\\([Az])/g, (_, letter) => (letter === "A" ? "^" : "$"));
  try {
    const whole = new RegExp(`^(?:${source})$`, `${flags.replace("m", "")}u`);
    const part = new RegExp(source, `${flags}u`);
    return {
      text,
      matches: (value) => value.length <= LONGEST_VALUE && whole.test(value),
      matchesPart: (value) => value.length <= LONGEST_VALUE && part.test(value),
    };
  } catch {
    return null;
  }
}
