import type { Variable } from "../job.ts";
import { LONGEST_EXPANSION } from "./expand.ts";

/** What GitLab's server takes for a reference; `$$` is none, and stays. */
const REFERENCE = /\$\$|\$([A-Za-z_][A-Za-z0-9_]*)|\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g;
/** Of all values together: references that multiply stay as they are written from there on. */
const MOST_CHARACTERS = 4 * LONGEST_EXPANSION;

/** Values in which the references to one another are in place. */
export interface Nested {
  valueOf(variable: Variable): string;
  /** It refers to others that refer to it: it stays as it is written. */
  isCircular(variable: Variable): boolean;
}

/** What a reference can be replaced by: no secret, which is nobody's but the scripts', nor what is to stay as it is. */
function isPlain({ public: open, file, raw, masked }: Variable): boolean {
  return open && !file && !raw && !masked;
}

/**
 * GitLab's server resolves references between variables before it sends a job, in the order of reference (`A=1 B=$A C=$B` is
 * `C=1`); AlloyCI leaves that to its runner. Names of nothing, of secrets, of files and of raw variables stay as text, and so
 * does a variable's own name, by which it builds on what is below it.
 */
export function nestReferences(variables: readonly Variable[]): Nested {
  const last = new Map(variables.map((variable) => [variable.key, variable]));
  const open = new Map<string, { readonly variable: Variable; readonly names: Set<string> }>();
  for (const variable of last.values()) {
    if (!isPlain(variable) || !variable.value.includes("$")) continue;
    const names = new Set([...variable.value.matchAll(REFERENCE)].flatMap(([, bare, braced]) => bare ?? braced ?? []));
    names.delete(variable.key);
    open.set(variable.key, { variable, names });
  }
  const waits = new Map<string, string[]>();
  const missing = new Map<string, number>();
  for (const [key, { names }] of open) {
    const needed = [...names].filter((name) => open.has(name));
    missing.set(key, needed.length);
    for (const name of needed) {
      const users = waits.get(name);
      if (users === undefined) waits.set(name, [key]);
      else users.push(key);
    }
  }
  const order = new Set(inOrder([...open.keys()], waits, missing));
  const circular = circlesOf(
    [...open.keys()].filter((key) => !order.has(key)),
    open,
  );
  for (const key of circular)
    for (const other of waits.get(key) ?? []) missing.set(other, (missing.get(other) ?? 1) - 1);
  const behind = [...open.keys()].filter((key) => !order.has(key) && !circular.has(key));
  const all = [...order, ...inOrder(behind, waits, missing)];

  const values = new Map<Variable, string>();
  let characters = 0;
  for (const key of all) {
    const variable = open.get(key)?.variable;
    if (variable === undefined) continue;
    const value = variable.value.replace(REFERENCE, (text, bare, braced) => {
      const target = last.get(bare ?? braced ?? "");
      if (target === undefined || target === variable || !isPlain(target) || circular.has(target.key)) return text;
      const put = values.get(target) ?? target.value;
      characters += put.length;
      return characters > MOST_CHARACTERS ? text : put;
    });
    values.set(variable, value.length > LONGEST_EXPANSION ? variable.value : value);
  }
  return {
    valueOf: (variable) => values.get(variable) ?? variable.value,
    isCircular: (variable) => circular.has(variable.key) && last.get(variable.key) === variable,
  };
}

/** Those of `keys` that can be resolved, each behind what it refers to. */
function inOrder(
  keys: readonly string[],
  waits: ReadonlyMap<string, readonly string[]>,
  missing: Map<string, number>,
): string[] {
  const order = keys.filter((key) => missing.get(key) === 0);
  for (const key of order) {
    for (const other of waits.get(key) ?? []) {
      const left = (missing.get(other) ?? 0) - 1;
      missing.set(other, left);
      if (left === 0) order.push(other);
    }
  }
  return order;
}

/** `keys` without those that nothing else of them refers to: what is left refers to itself by a detour. */
function circlesOf(
  keys: readonly string[],
  open: ReadonlyMap<string, { readonly names: ReadonlySet<string> }>,
): Set<string> {
  const left = new Set(keys);
  const users = new Map(keys.map((key) => [key, 0]));
  const count = (key: string, by: 1 | -1): string[] =>
    [...(open.get(key)?.names ?? [])].filter((name) => {
      if (!left.has(name)) return false;
      const now = (users.get(name) ?? 0) + by;
      users.set(name, now);
      return now === 0;
    });
  for (const key of keys) count(key, 1);
  const unused = keys.filter((key) => users.get(key) === 0);
  for (const key of unused) {
    unused.push(...count(key, -1));
    left.delete(key);
  }
  return left;
}
