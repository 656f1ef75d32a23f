import { holds, parseExpression } from "../decide/expression.ts";
import { compile } from "../decide/regex.ts";
import type { Findings } from "../read/findings.ts";
import { at, isNull, type Node, nodeOf, type Place, placeOf, plain, type Table, textOf } from "../read/node.ts";

/** Values of a file's inputs, by name. */
export type Inputs = ReadonlyMap<string, Node>;

/** What a file is given: nodes of an `include`, or texts of a command line. */
export interface GivenInputs {
  readonly values: ReadonlyMap<string, Node>;
  /** Values for those of them that the file declares and that are not given. */
  readonly offered?: ReadonlyMap<string, Node>;
  /** Where they are given. */
  readonly place: Place;
}

const TYPES = ["string", "number", "boolean", "array"];
const KEYS = ["type", "default", "options", "regex", "description", "rules"];

/**
 * The inputs of a file with that header, checked against what it declares.
 * @returns what could be told; `findings` have the rest
 */
export function resolveInputs(
  header: Node | undefined,
  given: GivenInputs,
  lookup: (name: string) => string | undefined,
  findings: Findings,
): Inputs {
  return resolveDeclared(at(at(header, "spec"), "inputs"), given, lookup, findings);
}

/** The same for what is declared already: names and what they may be. */
export function resolveDeclared(
  declared: Node | undefined,
  given: GivenInputs,
  lookup: (name: string) => string | undefined,
  findings: Findings,
): Inputs {
  const inputs = new Map<string, Node>();
  const known = declared?.kind === "table" ? declared : undefined;
  for (const [name, value] of given.values)
    if (known?.entries.has(name) !== true) {
      const reason =
        known === undefined ? "the file declares no inputs" : `its inputs are ${[...known.entries.keys()].join(", ")}`;
      findings.error(value.place, `unknown input "${name}": ${reason}`);
    }
  if (declared !== undefined && known === undefined && !isNull(declared))
    findings.error(declared.place, "spec:inputs must be a table of inputs");
  for (const [name, { place, value: declaration }] of known?.entries ?? []) {
    const value = resolveOne({ name, declaration, place }, { given, before: inputs, lookup }, findings);
    if (value !== undefined) inputs.set(name, value);
  }
  return inputs;
}

interface Declared {
  readonly name: string;
  readonly declaration: Node;
  readonly place: Place;
}

interface Around {
  readonly given: GivenInputs;
  /** Inputs that were declared before this one. */
  readonly before: Inputs;
  readonly lookup: (name: string) => string | undefined;
}

function resolveOne(
  { name, declaration, place }: Declared,
  { given, before, lookup }: Around,
  findings: Findings,
): Node | undefined {
  for (const key of declaration.kind === "table" ? declaration.entries.keys() : [])
    if (!KEYS.includes(key))
      findings.error(
        placeOf(declaration, [key]),
        `input "${name}" has the unknown key "${key}": it may have ${KEYS.join(", ")}`,
      );
  const type = textOf(at(declaration, "type")) ?? "string";
  if (!TYPES.includes(type)) {
    findings.error(placeOf(declaration, ["type"]), `input "${name}": the type must be one of ${TYPES.join(", ")}`);
    return undefined;
  }
  const rule = matchingRule(declaration, before, lookup, findings);
  const options = at(rule, "options") ?? at(declaration, "options");
  const fallback =
    at(rule, "default") ??
    (declaration.kind === "table" && declaration.entries.has("default") ? at(declaration, "default") : undefined);
  const from = given.values.get(name) ?? given.offered?.get(name);
  const value = from === undefined ? fallback : converted(from, type);
  if (value === undefined) {
    findings.error(given.place, `input "${name}" has no value, and it has no default: give it one`);
    return undefined;
  }
  const problem = problemOf(value, type, options, textOf(at(declaration, "regex")));
  if (problem === undefined) return value;
  const where = from === undefined ? placeOf(declaration, ["default"]) : from.place;
  findings.error(where.line === 0 ? place : where, `input "${name}" ${problem}`);
  return undefined;
}

function matchingRule(
  declaration: Node,
  inputs: Inputs,
  lookup: (name: string) => string | undefined,
  findings: Findings,
): Node | undefined {
  const rules = at(declaration, "rules");
  if (rules?.kind !== "list") return undefined;
  return rules.items.find((rule) => {
    const condition = at(rule, "if");
    if (condition === undefined) return true;
    const expression = parseExpression(textOf(condition) ?? "");
    if (typeof expression === "string") {
      findings.error(condition.place, `invalid expression syntax: ${expression}`);
      return false;
    }
    const input = (name: string): string | undefined => {
      const value = inputs.get(name);
      return value === undefined ? undefined : asText(value);
    };
    return holds(expression, { variable: lookup, input });
  });
}

/** A text that is given for an input of another type is read as JSON. */
function converted(node: Node, type: string): Node {
  const text = textOf(node);
  if (type === "string" || text === undefined) return node;
  try {
    return nodeOf(JSON.parse(text), node.place);
  } catch {
    return node;
  }
}

function problemOf(
  value: Node,
  type: string,
  options: Node | undefined,
  regex: string | undefined,
): string | undefined {
  const content = plain(value);
  const fits = type === "array" ? Array.isArray(content) : typeof content === type;
  if (!fits) return `must be of type ${type}`;
  if (options?.kind === "list" && !options.items.some((option) => option.kind === "scalar" && option.value === content))
    return `must be one of its options: ${options.items.map(asText).join(", ")}`;
  if (regex === undefined || typeof content !== "string") return undefined;
  const pattern = compile(regex);
  if (pattern === null) return `has a regex that is none: ${regex}`;
  return pattern.matches(content) ? undefined : `must match the regex ${regex}`;
}

/** A value inside of a text. */
export function asText(node: Node): string {
  return node.kind === "scalar" ? node.text : JSON.stringify(plain(node));
}

/** Inputs as they come from a command line or from `inputs:` of an include. */
export function givenInputs(node: Node | undefined, place: Place): GivenInputs {
  const table: Table | undefined = node?.kind === "table" ? node : undefined;
  return { values: new Map([...(table?.entries ?? [])].map(([name, { value }]) => [name, value])), place };
}
