/**
 * Reading what a coordinator sent, whatever its types are: `null` is absent, scalars become text, one string is a list of
 * one. What had to be bent or left out is said in a sentence that names the place and never the value.
 */
export interface Reader {
  /** What had to be bent, one sentence each. */
  readonly warnings: readonly string[];
  /** What of it was too much, and was left out: a job with that is not run. `null`: nothing. */
  readonly excess: string | null;
  warn(sentence: string): void;
  /** Scalars as text, absent as "", objects and lists as JSON with a warning. */
  text(value: unknown, place: string): string;
  /** Text that names something, or is an address: too long a one is `""`, and `excess`. */
  name(value: unknown, place: string): string;
  /** `true`, `"true"`, `1`, `"yes"` and `"on"`. */
  flag(value: unknown, place: string): boolean;
  /** A finite number, also out of text; `undefined` where there is none. */
  number(value: unknown, place: string): number | undefined;
  /** A list of texts: nested lists are flattened, nulls left out. */
  texts(value: unknown, place: string): string[];
  /** `texts` that name something: too many, or too long a one, are `excess`. */
  names(value: unknown, place: string): string[];
  /** The objects of a list; one object is a list of one, nulls are left out, others with a warning. */
  records(value: unknown, place: string, most?: number): Fields[];
  /** The first `most` values; further ones are `excess`. */
  within<T>(values: readonly T[], place: string, most?: number): readonly T[];
  /** One of `known`; absent is the first, another one too, with a warning. */
  choice<T extends string>(value: unknown, known: readonly [T, ...T[]], place: string): T;
}

export type Fields = Readonly<Record<string, unknown>>;

const MOST_WARNINGS = 50;
const LONGEST_WARNING = 500;
/** The longest name, ref or address. */
export const LONGEST_NAME = 8192;
export const MOST_VARIABLES = 10_000;
/** The most parts of one kind that a job may have: steps, services, artifacts, caches, dependencies, logins, hooks. */
export const MOST_PARTS = 1000;
/** YAML merges can nest script lines; deeper than this is nobody's script. */
const DEEPEST_LIST = 16;

export function createReader(): Reader {
  const warnings: string[] = [];
  let excess: string | null = null;

  const reader: Reader = {
    warnings,
    get excess() {
      return excess;
    },
    warn(sentence) {
      const short = sentence.length > LONGEST_WARNING ? `${sentence.slice(0, LONGEST_WARNING)}…` : sentence;
      if (warnings.length < MOST_WARNINGS) warnings.push(short);
      else if (warnings.length === MOST_WARNINGS) warnings.push("More of this job was odd than is listed here.");
    },
    text(value, place) {
      if (value === null || value === undefined) return "";
      if (typeof value === "string") return value;
      if (typeof value !== "object") return String(value);
      reader.warn(`${place} is ${Array.isArray(value) ? "a list" : "an object"}, expected text: its JSON is used.`);
      return json(value);
    },
    name(value, place) {
      const text = reader.text(value, place);
      if (text.length <= LONGEST_NAME) return text;
      excess ??= `${place} has ${text.length} characters, and ${LONGEST_NAME} is the most that this runner takes.`;
      return "";
    },
    within(values, place, most = MOST_PARTS) {
      if (values.length <= most) return values;
      excess ??= `${place} has ${values.length} entries, and ${most} is the most that this runner takes.`;
      return values.slice(0, most);
    },
    flag(value, place) {
      if (value === null || value === undefined || value === "") return false;
      const word = typeof value === "object" ? "" : String(value).trim().toLowerCase();
      if (/^(true|yes|on|1)$/.test(word)) return true;
      if (!/^(false|no|off|0)$/.test(word)) reader.warn(`${place} is neither true nor false: false is used.`);
      return false;
    },
    number(value, place) {
      if (value === null || value === undefined || value === "") return undefined;
      const number = typeof value === "number" ? value : typeof value === "string" ? Number(value) : Number.NaN;
      if (Number.isFinite(number)) return number;
      reader.warn(`${place} is not a number and was ignored.`);
      return undefined;
    },
    texts(value, place) {
      return flatten(value, 0).map((entry) => reader.text(entry, place));
    },
    names(value, place) {
      return reader.within(flatten(value, 0), place).map((entry) => reader.name(entry, place));
    },
    records(value, place, most = MOST_PARTS) {
      if (value === null || value === undefined) return [];
      return reader.within(flatten(value, 0), place, most).flatMap((entry) => {
        if (isFields(entry)) return [entry];
        reader.warn(`${place} holds something that is not an object; it was ignored.`);
        return [];
      });
    },
    choice(value, known, place) {
      const [usual] = known;
      if (value === null || value === undefined || value === "") return usual;
      const found = known.find((word) => word === value);
      if (found !== undefined) return found;
      reader.warn(`${place} has an unknown value, expected one of ${known.join(", ")}: ${usual} is used.`);
      return usual;
    },
  };
  return reader;
}

export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `value` if it is an object, else one without fields. */
export function fieldsOf(value: unknown): Fields {
  return isFields(value) ? value : {};
}

function flatten(value: unknown, depth: number): unknown[] {
  if (value === null || value === undefined) return [];
  if (!Array.isArray(value) || depth > DEEPEST_LIST) return [value];
  return value.flatMap((entry: unknown) => flatten(entry, depth + 1));
}

function json(value: object): string {
  try {
    return JSON.stringify(value);
  } catch {
    return ""; // nested beyond what the stack holds
  }
}
