import type { Budget } from "./budget.ts";
import { ExpressionError } from "./expression-error.ts";

/** What expressions work with. Objects are maps: names of strangers must not meet those of JavaScript's own objects. */
export type Value = null | boolean | number | string | readonly Value[] | ReadonlyMap<string, Value>;

/** A value, and whether anything that its author calls sensitive went into it. */
export interface Known {
  readonly value: Value;
  readonly sensitive: boolean;
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

/** @throws {ExpressionError} it is more than the budget has left */
export function textOf(value: Value, budget: Budget): string {
  if (value === null) return "<null>";
  return typeof value === "object" ? toJson(value, budget) : String(value);
}

function toJson(value: Value, budget: Budget): string {
  budget.step();
  if (isArray(value)) return `[${value.map((entry) => toJson(entry, budget)).join(",")}]`;
  if (isObject(value)) {
    const entries = [...value].map(([key, entry]) => `${toJson(key, budget)}:${toJson(entry, budget)}`);
    return `{${entries.join(",")}}`;
  }
  if (typeof value === "string") budget.read(value.length);
  return JSON.stringify(value);
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

/**
 * Negative, 0 or positive. Texts are compared by their bytes, objects by size, keys and values.
 * @throws {ExpressionError} it is more than the budget has left
 */
export function compare(a: Value, b: Value, budget: Budget): number {
  budget.step();
  const byKind = kinds.indexOf(kindOf(a)) - kinds.indexOf(kindOf(b));
  if (byKind !== 0) return byKind;
  if (typeof a === "string" && typeof b === "string") {
    budget.read(a.length + b.length);
    return compareTexts(a, b);
  }
  if (isArray(a) && isArray(b)) return compareLists(a, b, budget);
  if (isObject(a) && isObject(b)) {
    if (a.size !== b.size) return a.size - b.size;
    const [ofA, ofB] = [sorted(a, budget), sorted(b, budget)];
    const byKeys = compareLists(
      ofA.map(([key]) => key),
      ofB.map(([key]) => key),
      budget,
    );
    if (byKeys !== 0) return byKeys;
    return compareLists(
      ofA.map(([, value]) => value),
      ofB.map(([, value]) => value),
      budget,
    );
  }
  return Number(a) - Number(b);
}

function compareTexts(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) {
    const order = rank(a.charCodeAt(at)) - rank(b.charCodeAt(at));
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

/** The halves of characters beyond U+FFFF sort behind all others, as the bytes of UTF-8 do. */
function rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

function compareLists(a: readonly Value[], b: readonly Value[], budget: Budget): number {
  for (const [index, left] of a.entries()) {
    const right = b[index];
    if (right === undefined) break;
    const order = compare(left, right, budget);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

function sorted(map: ReadonlyMap<string, Value>, budget: Budget): [string, Value][] {
  budget.step(map.size);
  return [...map].sort(([a], [b]) => compare(a, b, budget));
}
