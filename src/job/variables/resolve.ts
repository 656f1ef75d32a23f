import type { Op } from "../../shell.ts";
import { LONGEST_EXPANSION, parseReferences } from "./expand.ts";

/**
 * Linux starts no program with more than 6 MiB of arguments and environment, and the usual limit of the stack makes that 2 MiB.
 * What values expand to is counted before it is all there.
 */
export const MOST_ENVIRONMENT_BYTES = 6 * 1024 * 1024;

/** Who wanted a variable: the operator is obeyed everywhere, a job only in its own scripts. */
type Origin = "operator" | "runner" | "job";

export interface Definition {
  readonly key: string;
  readonly value: string;
  readonly file: boolean;
  /** `$NAME` in the value is replaced. */
  readonly expands: boolean;
  /** Its value is for the job's own scripts only. */
  readonly hidden: boolean;
  readonly origin: Origin;
}

export interface Resolved {
  readonly key: string;
  readonly value: string;
  readonly file: boolean;
  readonly hidden: boolean;
  readonly op: Op;
}

/** Values of variables, each expanded when it is first asked for. */
export interface Resolver {
  get(key: string): string | undefined;
  /** What a reference to `name` becomes: its last definition, unexpanded. */
  raw(name: string): string;
  /** The last definition of each name among those that `select` takes, in order. */
  last(select: (definition: Definition) => boolean): Resolved[];
  /** Why the values are too much together: they are empty from there on. */
  excess(): string | null;
}

export function createResolver(definitions: readonly Definition[], tmpDir: string): Resolver {
  const byKey = new Map<string, Definition[]>();
  for (const definition of definitions) {
    const same = byKey.get(definition.key);
    if (same === undefined) byKey.set(definition.key, [definition]);
    else same.push(definition);
  }
  const pathOf = (key: string): string => `${tmpDir}/${fileNameOf(key)}`;
  const content = ({ key, value, file }: Definition): string => (file ? pathOf(key) : value);
  const raw = (name: string): string => {
    const last = byKey.get(name)?.at(-1);
    return last === undefined ? "" : content(last);
  };

  /** The value, in parts between which the variable's own value from outside stands. */
  const parts = (definition: Definition): string[] => {
    if (!definition.expands || !definition.value.includes("$")) return [definition.value];
    const same = byKey.get(definition.key) ?? [];
    const lower = same[same.indexOf(definition) - 1];
    const result = [""];
    let length = 0;
    const add = (text: string): void => {
      result[result.length - 1] += text;
      length += text.length;
    };
    for (const piece of parseReferences(definition.value)) {
      if ("text" in piece) add(piece.text);
      else if (piece.name !== definition.key) add(raw(piece.name));
      else if (lower === undefined) result.push("");
      else if (!lower.expands) add(content(lower));
      else
        for (const inner of parseReferences(lower.value)) {
          if ("text" in inner) add(inner.text);
          else if (inner.name === definition.key) result.push("");
          else add(raw(inner.name));
        }
      // A value this long is refused anyway.
      if (length > LONGEST_EXPANSION) break;
    }
    return result;
  };

  let bytes = 0;
  let excess: string | null = null;
  const counted = (key: string, around: readonly string[]): readonly string[] => {
    const its = around.reduce((sum, text) => sum + Buffer.byteLength(text), key.length + 2);
    if (excess === null && bytes + its <= MOST_ENVIRONMENT_BYTES) {
      bytes += its;
      return around;
    }
    excess ??= `The variables of this job are larger than ${MOST_ENVIRONMENT_BYTES} bytes together, which no environment holds; the one too many is ${listNames([key])} with ${its} bytes. Make large ones file variables, and mind what refers to them.`;
    return [""];
  };

  /** Each definition is expanded once, however many scripts export it. */
  const known = new Map<Definition, Resolved>();
  const resolve = (definition: Definition): Resolved => {
    const found = known.get(definition) ?? resolveNew(definition);
    known.set(definition, found);
    return found;
  };
  const resolveNew = (definition: Definition): Resolved => {
    const { key, value, file, hidden } = definition;
    if (file) {
      const path = pathOf(key);
      return { key, value: path, file, hidden, op: { op: "exportFile", name: key, path, content: value } };
    }
    const around = counted(key, excess === null ? parts(definition) : [""]);
    const joined = around.join("");
    const op: Op = { op: "export", name: key, value: joined, ...(around.length > 1 ? { around } : {}) };
    return { key, value: joined, file, hidden, op };
  };

  return {
    raw,
    excess: () => excess,
    get(key) {
      const last = byKey.get(key)?.at(-1);
      return last === undefined ? undefined : resolve(last).value;
    },
    last(select) {
      const found = new Map<string, Definition>();
      for (const definition of definitions) {
        if (!select(definition)) continue;
        found.delete(definition.key);
        found.set(definition.key, definition);
      }
      return [...found.values()].map(resolve);
    },
  };
}

/** A variable's name as the name of a file: never another directory, never hidden, never too long. */
function fileNameOf(key: string): string {
  const safe = key.replace(/[^A-Za-z0-9_-]/g, "_");
  return safe.length > 200 ? safe.slice(0, 200) : safe;
}

/** Names of strangers in a sentence: quoted, so that nothing in them passes for our own text, and not too many. */
export function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 20).map((name) => JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name));
  return names.length > shown.length ? `${shown.join(", ")} and ${names.length - shown.length} more` : shown.join(", ");
}
