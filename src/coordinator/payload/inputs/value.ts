/** What expressions work with. Objects are maps: names of strangers must not meet those of JavaScript's own objects. */
export type Value = null | boolean | number | string | readonly Value[] | ReadonlyMap<string, Value>;

/** A value, and whether anything that its author calls sensitive went into it. */
export interface Known {
  readonly value: Value;
  readonly sensitive: boolean;
}

/** Why an expression has no value; the text quotes nothing of the values. */
export class ExpressionError extends Error {
  override readonly name = "ExpressionError";
}

export type Kind = "null" | "boolean" | "number" | "string" | "array" | "object";

/** In the order in which values of different kinds are compared. */
const kinds: readonly Kind[] = ["null", "boolean", "number", "string", "array", "object"];

/** Deeper values are nobody's. */
const DEEPEST = 64;

export function isArray(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

export function isObject(value: Value): value is ReadonlyMap<string, Value> {
  return value instanceof Map;
}

export function kindOf(value: Value): Kind {
  if (value === null) return "null";
  if (isArray(value)) return "array";
  if (isObject(value)) return "object";
  if (typeof value === "boolean") return "boolean";
  return typeof value === "number" ? "number" : "string";
}

/** @throws {ExpressionError} it is nested too deeply */
export function fromJson(json: unknown, depth = 0): Value {
  if (depth > DEEPEST) throw new ExpressionError("is nested too deeply");
  if (json === null || typeof json === "boolean" || typeof json === "number" || typeof json === "string") return json;
  if (Array.isArray(json)) return json.map((entry: unknown) => fromJson(entry, depth + 1));
  if (typeof json !== "object") return null;
  return new Map(Object.entries(json).map(([key, entry]) => [key, fromJson(entry, depth + 1)]));
}

function toJson(value: Value): string {
  if (isArray(value)) return `[${value.map(toJson).join(",")}]`;
  if (isObject(value))
    return `{${[...value].map(([key, entry]) => `${JSON.stringify(key)}:${toJson(entry)}`).join(",")}}`;
  return JSON.stringify(value);
}

export function textOf(value: Value): string {
  if (value === null) return "<null>";
  return typeof value === "object" ? toJson(value) : String(value);
}

/** All the texts in it. */
export function textsIn(value: Value): string[] {
  if (isArray(value)) return value.flatMap(textsIn);
  if (isObject(value)) return [...value.values()].flatMap(textsIn);
  return value === null || typeof value === "boolean" ? [] : [String(value)];
}

export function isTruthy(value: Value): boolean {
  if (isArray(value)) return value.length > 0;
  if (isObject(value)) return value.size > 0;
  return Boolean(value);
}

/** Negative, 0 or positive. Texts are compared by their bytes, objects by size, keys and values. */
export function compare(a: Value, b: Value): number {
  const byKind = kinds.indexOf(kindOf(a)) - kinds.indexOf(kindOf(b));
  if (byKind !== 0) return byKind;
  if (typeof a === "string" && typeof b === "string") return Buffer.compare(Buffer.from(a), Buffer.from(b));
  if (isArray(a) && isArray(b)) return compareLists(a, b);
  if (isObject(a) && isObject(b)) {
    const [ofA, ofB] = [sorted(a), sorted(b)];
    return (
      a.size - b.size ||
      compareLists(
        ofA.map(([key]) => key),
        ofB.map(([key]) => key),
      ) ||
      compareLists(
        ofA.map(([, value]) => value),
        ofB.map(([, value]) => value),
      )
    );
  }
  return Number(a) - Number(b);
}

function compareLists(a: readonly Value[], b: readonly Value[]): number {
  for (const [index, left] of a.entries()) {
    const right = b[index];
    if (right === undefined) break;
    const order = compare(left, right);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

function sorted(map: ReadonlyMap<string, Value>): [string, Value][] {
  return [...map].sort(([a], [b]) => compare(a, b));
}
