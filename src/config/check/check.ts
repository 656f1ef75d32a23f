import { z } from "zod";
import { childOf, type LayoutNode, nodeAt } from "../file/layout-node.ts";
import { isTable, type TomlData, type TomlDocument, type TomlTable } from "../file/toml.ts";
import { advice, describe, explainIssue, keyText, type Path } from "./explain.ts";
import type { Findings } from "./findings.ts";
import { explainUnknownKey, type ForeignKeys } from "./keys.ts";
import { globalKeys, runnerKeys } from "./schema.ts";

/** One table of the file and where it stands. */
export interface Part {
  readonly document: TomlDocument;
  readonly findings: Findings;
  readonly data: TomlTable;
  readonly node: LayoutNode;
  /** `""`, `runners`, `runners.docker`. */
  readonly table: string;
  /** ` of "build-07"` behind each key, or empty. */
  readonly owner: string;
  /** What other runners of the family know. */
  readonly foreign: ForeignKeys;
  /** Keys that somebody else reads, lower case. */
  readonly skip: ReadonlySet<string>;
}

/**
 * Read one table by its schema: key names match whatever their case, unknown keys become warnings, everything that does
 * not fit becomes a problem with its line. `undefined` when there was a problem.
 */
export function readPart<S extends z.ZodType>(schema: S, part: Part): z.output<S> | undefined {
  const reported = new Set<string>();
  const fitted = conform({ schema, data: part.data, node: part.node, path: [] }, part, reported);
  // A message that is left empty is one that the schema has no words of its own for.
  const result = schema.safeParse(fitted, { error: () => "" });
  if (!result.success) {
    for (const issue of result.error.issues) {
      if (reported.has(issue.path.join("."))) continue;
      reported.add(issue.path.join("."));
      const value = valueAt(fitted, issue.path);
      part.findings.problem(nodeAt(part.node, issue.path).at, keyName(part, issue.path), explainIssue(issue, value));
    }
  }
  return reported.size === 0 && result.success ? result.data : undefined;
}

/** `runners.docker.services[0].name of "build-07"`. */
export function keyName(part: Pick<Part, "table" | "owner">, path: Path): string {
  let name = part.table;
  for (const step of path) {
    const word = typeof step === "number" ? `[${step}]` : keyText(String(step));
    name += typeof step === "number" || name === "" ? word : `.${word}`;
  }
  return `${name === "" ? "the file" : name}${part.owner}`;
}

/** A place in the data, with what the schema and the file have for it. */
interface Spot {
  readonly schema: z.core.$ZodType;
  readonly data: TomlData;
  readonly node: LayoutNode | undefined;
  readonly path: Path;
}

/** The data with the schema's spelling of its keys and without what the schema doesn't know. `reported`: paths of what is said. */
function conform(spot: Spot, part: Part, reported: Set<string>): unknown {
  const { data } = spot;
  const inner = innermost(spot.schema, data);
  const complain: Complain = (text) => {
    reported.add(spot.path.join("."));
    part.findings.problem(spot.node?.at ?? part.node.at, keyName(part, spot.path), text);
  };
  const integer = inner instanceof z.ZodNumber && inner.format?.endsWith("int") === true;
  if (integer && typeof data !== "number" && typeof data !== "bigint") {
    complain(`expected a whole number, found ${describe(data)}${advice(spot.path, ["int"], data, false)}`);
    return data;
  }
  if (isTable(data)) return conformTable({ ...spot, schema: inner, data }, part, reported);
  if (!Array.isArray(data)) return conformValue({ ...spot, schema: inner }, integer, part, complain);
  const element = inner instanceof z.ZodArray ? inner.element : ANYTHING;
  const { node, path } = spot;
  return data.map((item, index) => {
    const child = node?.kind === "array" ? node.items[index] : undefined;
    return conform({ schema: element, data: item, node: child, path: [...path, index] }, part, reported);
  });
}

type Complain = (text: string) => void;

function conformTable(spot: Spot & { readonly data: TomlTable }, part: Part, reported: Set<string>): unknown {
  const { schema, data, node, path } = spot;
  const shape = schema instanceof z.ZodObject ? new Map(Object.entries(schema.shape)) : undefined;
  const names = new Map([...(shape?.keys() ?? [])].map((name) => [name.toLowerCase(), name]));
  // A schema that says it takes any key gets them.
  const loose =
    schema instanceof z.ZodObject && schema.def.catchall !== undefined && !(schema.def.catchall instanceof z.ZodNever);
  const result: Record<string, unknown> = Object.create(null);
  for (const [key, value] of Object.entries(data)) {
    const child = node?.kind === "table" ? node.keys.get(key) : undefined;
    const name = shape === undefined ? key : (names.get(key.toLowerCase()) ?? (loose ? key : undefined));
    if (path.length === 0 && part.skip.has(key.toLowerCase())) continue;
    if (name === undefined) warnUnknown(part, path, key, child ?? node, [...names.values()]);
    else if (Object.hasOwn(result, name)) {
      reported.add([...path, name].join("."));
      const text = "is set twice (upper and lower case are the same). Keep one";
      part.findings.problem(child?.at ?? part.node.at, keyName(part, [...path, key]), text);
    } else {
      const below = schema instanceof z.ZodRecord ? schema.valueType : shape?.get(name);
      const inside: Spot = { schema: below ?? ANYTHING, data: value, node: child, path: [...path, name] };
      result[name] = conform(inside, part, reported);
    }
  }
  return result;
}

function conformValue({ schema, data, node }: Spot, integer: boolean, part: Part, complain: Complain): unknown {
  const raw = node?.kind === "value" ? part.document.text.slice(node.start, node.end) : "";
  // The parser wraps numbers beyond 64 bits around in silence: what was written decides.
  if (typeof data === "bigint" || (typeof data === "number" && isHugeInteger(raw))) {
    if (!(schema instanceof z.ZodUnknown)) complain(`${raw.slice(0, 40) || data} is too large a number`);
    return 0;
  }
  if (typeof data === "number" && integer && isFloat(raw)) {
    complain(
      `expected a whole number, found ${raw.slice(0, 40)}${Number.isSafeInteger(data) ? `. Write it as ${data}` : ""}`,
    );
  }
  if (typeof data === "string" && data.includes("\0")) complain("holds a NUL character, which no program can be given");
  return data;
}

const ANYTHING = z.unknown();

const isFloat = (raw: string): boolean => /^[+-]?(?:\d[\d_]*(?:\.|[eE])|inf|nan)/.test(raw);

function isHugeInteger(raw: string): boolean {
  if (!/^[+-]?\d[\d_a-fA-Fxob]*$/.test(raw) || isFloat(raw)) return false;
  try {
    const value = BigInt(raw.replaceAll("_", "").replace(/^[+-]/, ""));
    return value > BigInt(Number.MAX_SAFE_INTEGER);
  } catch {
    return false; // a date
  }
}

/** The schema that says what `data` may look like: without defaults, transforms and alternatives that don't fit. */
function innermost(schema: z.core.$ZodType, data: TomlData): z.core.$ZodType {
  let current = schema;
  for (let depth = 0; depth < 20; depth++) {
    if (current instanceof z.ZodOptional || current instanceof z.ZodNullable || current instanceof z.ZodReadonly) {
      current = current.def.innerType;
    } else if (current instanceof z.ZodDefault || current instanceof z.ZodPrefault || current instanceof z.ZodCatch) {
      current = current.def.innerType;
    } else if (current instanceof z.ZodLazy) current = current.def.getter();
    else if (current instanceof z.ZodPipe) {
      current = current.def.in instanceof z.ZodTransform ? current.def.out : current.def.in;
    } else if (current instanceof z.ZodUnion) {
      const options: readonly z.core.$ZodType[] = current.def.options;
      const fitting = options.find((option) => accepts(innermost(option, data), data));
      if (fitting === undefined) return current;
      current = fitting;
    } else return current;
  }
  return current;
}

function accepts(schema: z.core.$ZodType, data: TomlData): boolean {
  if (isTable(data)) return schema instanceof z.ZodObject || schema instanceof z.ZodRecord;
  if (Array.isArray(data)) return schema instanceof z.ZodArray;
  if (typeof data === "number" || typeof data === "bigint") return schema instanceof z.ZodNumber;
  return false;
}

function warnUnknown(part: Part, path: Path, key: string, node: LayoutNode | undefined, supported: string[]): void {
  part.findings.warning(node?.at ?? part.node.at, keyName(part, [...path, key]), () => {
    const steps = path.filter((step) => typeof step === "string");
    const table = [part.table, ...steps].filter((step) => step !== "").join(".");
    const known = [...supported, ...(path.length === 0 ? part.skip : [])];
    return explainUnknownKey({ table, key, supported: known, globalKeys, runnerKeys, foreign: part.foreign });
  });
}

function valueAt(data: unknown, path: Path): unknown {
  let value = data;
  for (const step of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = Reflect.get(value, step);
  }
  return value;
}

/** The table below `[[runners]]` of this name, whatever its case. */
export function subTable(data: TomlTable, node: LayoutNode, name: string): { data: TomlData; node: LayoutNode } | null {
  const key = Object.keys(data).find((each) => each.toLowerCase() === name.toLowerCase());
  const value = key === undefined ? undefined : data[key];
  if (key === undefined || value === undefined) return null;
  return { data: value, node: (node.kind === "table" ? childOf(node, key) : undefined) ?? node };
}
