import { z } from "zod";
import { ConfigError } from "../errors.ts";
import { explainUnknownKey, nearest } from "./keys.ts";
import { childOf, type LayoutNode, nodeAt } from "./layout.ts";
import { globalKeys, runnerKeys } from "./schema.ts";
import { isTable, type TomlData, type TomlDocument, type TomlTable } from "./toml.ts";

/** Gathers everything that is wrong with one file, so that it can be mended in one go. */
export interface Findings {
  /** @param at offset in the text  @param key dotted, `runners.limit`, with the entry's name where there is one */
  problem(at: number, key: string, text: string): void;
  warning(at: number, key: string, text: string | (() => string)): void;
  readonly warnings: readonly string[];
  /** @throws {ConfigError} one line per problem, in the order of the file */
  raise(): void;
}

const MOST_LINES = 30;

interface Finding {
  readonly line: number;
  readonly text: string;
}

export function createFindings(file: string, lineAt: (offset: number) => number): Findings {
  const problems: Finding[] = [];
  const warnings: Finding[] = [];
  let counted = { problems: 0, warnings: 0 };
  const note = (list: Finding[], at: number, key: string, say: string | (() => string)): void => {
    if (list.length >= MOST_LINES) return;
    const text = typeof say === "string" ? say : say();
    const line = lineAt(at);
    list.push({ line, text: `${file}:${line}: ${key}${/^(is|has|holds) /.test(text) ? "" : ":"} ${text}` });
  };
  const lines = (list: readonly Finding[], total: number): string[] => {
    const texts = list.toSorted((a, b) => a.line - b.line).map((finding) => finding.text);
    return total > list.length ? [...texts, `${file}: and ${total - list.length} more like these`] : texts;
  };
  return {
    problem(at, key, text) {
      counted = { ...counted, problems: counted.problems + 1 };
      note(problems, at, key, text);
    },
    warning(at, key, text) {
      counted = { ...counted, warnings: counted.warnings + 1 };
      note(warnings, at, key, text);
    },
    get warnings() {
      return lines(warnings, counted.warnings);
    },
    raise() {
      const [first] = problems.toSorted((a, b) => a.line - b.line);
      if (first === undefined) return;
      throw new ConfigError(lines(problems, counted.problems).join("\n"), { file, line: first.line });
    },
  };
}

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
  /** Keys that somebody else reads, lower case. */
  readonly skip: ReadonlySet<string>;
}

/**
 * Read one table by its schema: key names match whatever their case, unknown keys become warnings, everything that does
 * not fit becomes a problem with its line. `undefined` when there was a problem.
 */
export function readPart<S extends z.ZodType>(schema: S, part: Part): z.output<S> | undefined {
  const reported = new Set<string>();
  const fitted = conform(schema, part.data, part.node, [], part, reported);
  const result = schema.safeParse(fitted);
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

type Path = readonly PropertyKey[];

/** `runners.docker.services[0].name of "build-07"`. */
export function keyName(part: Pick<Part, "table" | "owner">, path: Path): string {
  let name = part.table;
  for (const step of path) {
    const word = typeof step === "number" ? `[${step}]` : keyText(String(step));
    name += typeof step === "number" || name === "" ? word : `.${word}`;
  }
  return `${name === "" ? "the file" : name}${part.owner}`;
}

function keyText(key: string): string {
  return /^[\w-]{1,80}$/.test(key) ? key : JSON.stringify(key.slice(0, 80));
}

/** The data with the schema's spelling of its keys and without what the schema doesn't know. */
function conform(
  schema: z.core.$ZodType,
  data: TomlData,
  node: LayoutNode | undefined,
  path: Path,
  part: Part,
  reported: Set<string>,
): unknown {
  const inner = innermost(schema, data);
  const complain = (text: string): void => {
    reported.add(path.join("."));
    part.findings.problem(node?.at ?? part.node.at, keyName(part, path), text);
  };
  const integer = inner instanceof z.ZodNumber && inner.format?.endsWith("int");
  if (integer && typeof data !== "number" && typeof data !== "bigint") {
    complain(`expected a whole number, found ${describe(data)}${advice(path, ["int"], data, false)}`);
    return data;
  }
  if (isTable(data)) {
    const shape = inner instanceof z.ZodObject ? new Map(Object.entries(inner.shape)) : undefined;
    const names = new Map([...(shape?.keys() ?? [])].map((name) => [name.toLowerCase(), name]));
    // A schema that says it takes any key gets them.
    const loose =
      inner instanceof z.ZodObject && inner.def.catchall !== undefined && !(inner.def.catchall instanceof z.ZodNever);
    const result: Record<string, unknown> = Object.create(null);
    for (const [key, value] of Object.entries(data)) {
      const child = node?.kind === "table" ? node.keys.get(key) : undefined;
      const name = shape === undefined ? key : (names.get(key.toLowerCase()) ?? (loose ? key : undefined));
      if (path.length === 0 && part.skip.has(key.toLowerCase())) continue;
      if (name === undefined) warnUnknown(part, path, key, child ?? node, [...names.values()]);
      else if (Object.hasOwn(result, name)) {
        reported.add([...path, name].join("."));
        part.findings.problem(
          child?.at ?? part.node.at,
          keyName(part, [...path, key]),
          `is set twice (upper and lower case are the same). Keep one`,
        );
      } else {
        const below = inner instanceof z.ZodRecord ? inner.valueType : shape?.get(name);
        result[name] = conform(below ?? ANYTHING, value, child, [...path, name], part, reported);
      }
    }
    return result;
  }
  if (Array.isArray(data)) {
    const element = inner instanceof z.ZodArray ? inner.element : ANYTHING;
    return data.map((item, index) =>
      conform(element, item, node?.kind === "array" ? node.items[index] : undefined, [...path, index], part, reported),
    );
  }
  const raw = node?.kind === "value" ? part.document.text.slice(node.start, node.end) : "";
  // The parser wraps numbers beyond 64 bits around in silence: what was written decides.
  if (typeof data === "bigint" || (typeof data === "number" && isHugeInteger(raw))) {
    if (!(inner instanceof z.ZodUnknown)) complain(`${raw.slice(0, 40) || data} is too large a number`);
    return 0;
  }
  if (typeof data === "number" && integer && isFloat(raw)) {
    complain(
      `expected a whole number, found ${raw.slice(0, 40)}${Number.isInteger(data) ? `. Write it as ${data}` : ""}`,
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
    return explainUnknownKey({ table, key, supported: known, globalKeys, runnerKeys });
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

const SECRET_KEY = /token|password|secret|credential|access_?key|dsn|auth|environment|url|script/i;

const EXPECTED: Readonly<Record<string, string>> = {
  string: "text in quotes",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list in [ ]",
  object: "a table",
  record: "a table",
};

/** What was expected, what was found, what to write instead. */
function explainIssue(issue: z.core.$ZodIssue, value: unknown): string {
  const secret = issue.path.some((step) => SECRET_KEY.test(String(step)));
  const found = secret && typeof value === "string" ? "another text" : describe(value);
  switch (issue.code) {
    case "invalid_type": {
      if (value === undefined) return `is missing. Expected ${EXPECTED[issue.expected] ?? issue.expected}`;
      return `expected ${EXPECTED[issue.expected] ?? issue.expected}, found ${found}${advice(issue.path, [issue.expected], value, secret)}`;
    }
    case "invalid_union": {
      const kinds = issue.errors.flat().flatMap((error) => (error.code === "invalid_type" ? [error.expected] : []));
      const names = [...new Set(kinds.map((kind) => EXPECTED[kind] ?? kind))];
      const wanted = names.length === 0 ? "something else" : names.join(" or ");
      return `expected ${wanted}, found ${found}${advice(issue.path, kinds, value, secret)}`;
    }
    case "too_small":
      return `expected ${issue.origin === "string" || issue.origin === "array" ? "a length of " : ""}at least ${issue.minimum}, found ${found}`;
    case "too_big":
      return `expected ${issue.origin === "string" || issue.origin === "array" ? "a length of " : ""}at most ${issue.maximum}, found ${found}`;
    case "invalid_value": {
      const values = issue.values.map(String);
      const wanted = values.map((each) => JSON.stringify(each)).join(", ");
      return `expected one of ${wanted}, found ${found}${guess(value, values)}`;
    }
    case "unrecognized_keys":
      return `has unknown keys: ${issue.keys.map(keyText).join(", ")}`;
    default: {
      const names: unknown = "params" in issue ? issue.params?.names : undefined;
      const words = Array.isArray(names) ? names.map(String) : [];
      const shown = secret || value === undefined || typeof value === "object" ? "" : `, found ${found}`;
      return `${issue.message}${shown}${guess(value, words)}`;
    }
  }
}

function guess(value: unknown, words: readonly string[]): string {
  const meant = typeof value === "string" ? nearest(value, words) : undefined;
  return meant === undefined ? "" : `. Did you mean "${meant}"?`;
}

function advice(path: Path, kinds: readonly string[], value: unknown, secret: boolean): string {
  if (secret) return "";
  const key = path.at(-1);
  const name = typeof key === "string" ? `${keyText(key)} = ` : "";
  const wants = (...names: string[]): boolean => kinds.some((kind) => names.includes(kind));
  if (typeof value === "string" && wants("number", "int") && /^-?\d{1,15}$/.test(value))
    return `. Write ${name}${value}`;
  if (typeof value === "string" && wants("boolean") && /^(true|false)$/i.test(value)) {
    return `. Write ${name}${value.toLowerCase()}`;
  }
  if (typeof value === "string" && wants("array") && value.length <= 60)
    return `. Write ${name}[${JSON.stringify(value)}]`;
  if ((typeof value === "number" || typeof value === "boolean") && wants("string")) return `. Write ${name}"${value}"`;
  return "";
}

function describe(value: unknown): string {
  if (typeof value === "string") {
    return `the text ${JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)}`;
  }
  if (Array.isArray(value)) return "a list";
  if (value instanceof Date) return "a date";
  if (typeof value === "object" && value !== null) return "a table";
  return String(value);
}

/** The table below `[[runners]]` of this name, whatever its case. */
export function subTable(data: TomlTable, node: LayoutNode, name: string): { data: TomlData; node: LayoutNode } | null {
  const key = Object.keys(data).find((each) => each.toLowerCase() === name.toLowerCase());
  const value = key === undefined ? undefined : data[key];
  if (key === undefined || value === undefined) return null;
  return { data: value, node: (node.kind === "table" ? childOf(node, key) : undefined) ?? node };
}
