import { asText, type Inputs, resolveDeclared } from "../../compose/inputs.ts";
import type { Findings } from "../../read/findings.ts";
import { at, type Entry, isNull, type Node, type Place, type Table, textNode } from "../../read/node.ts";

/** Values for inputs of jobs, by job and name. */
export type JobInputs = ReadonlyMap<string, ReadonlyMap<string, string>>;

const BLOCK = /\$\{\{\s*job\.inputs\.([\w-]+)\s*\}\}/g;
const MOST = 50;
/** Keywords that inputs of a job reach. */
const REACHED = ["before_script", "script", "after_script", "artifacts", "cache", "image", "services"];

/** A job with its `inputs` put in for `${{ job.inputs.NAME }}`: their defaults, or what was given. */
export function withJobInputs(job: Table, name: string, given: JobInputs, findings: Findings): Table {
  const declared = at(job, "inputs");
  const own = given.get(name);
  const place = { file: "--input", line: 1, column: 1 };
  if (declared === undefined || isNull(declared)) {
    if (own !== undefined) findings.error(place, `the job "${name}" has no inputs`);
    return job;
  }
  const table = declared.kind === "table" ? declared : undefined;
  if (table === undefined || table.entries.size > MOST) {
    findings.error(declared.place, `${name}: inputs must be a table of at most ${MOST} inputs`);
    return job;
  }
  const lacking = [...table.entries].filter(([, { value }]) => value.kind !== "table" || !value.entries.has("default"));
  for (const [input, entry] of lacking)
    findings.error(entry.place, `${name}: the input "${input}" of a job must have a default`);
  if (lacking.length > 0) return job;
  const values = new Map([...(own ?? [])].map(([key, value]) => [key, textNode(value, place)] as const));
  const inputs = resolveDeclared(table, { values, place }, () => undefined, findings);
  const entries = new Map(job.entries);
  for (const key of REACHED) {
    const entry = entries.get(key);
    if (entry !== undefined) entries.set(key, { ...entry, value: filled(entry.value, inputs, name, findings) });
  }
  return { ...job, entries };
}

function filled(node: Node, inputs: Inputs, name: string, findings: Findings): Node {
  const inputAt = (input: string, place: Place): Node | undefined => {
    const value = inputs.get(input);
    if (value === undefined) findings.error(place, `${name}: unknown input "${input}" of the job`);
    return value;
  };
  const walk = (part: Node): Node => {
    if (part.kind === "list")
      return {
        ...part,
        items: part.items.flatMap((item) => {
          const made = walk(item);
          return made !== item && item.kind === "scalar" && made.kind === "list" ? made.items : [made];
        }),
      };
    if (part.kind === "table")
      return {
        ...part,
        entries: new Map(
          [...part.entries].map(([key, entry]): [string, Entry] => [key, { ...entry, value: walk(entry.value) }]),
        ),
      };
    if (part.kind === "reference" || typeof part.value !== "string" || !part.value.includes("${{")) return part;
    const whole = /^\$\{\{\s*job\.inputs\.([\w-]+)\s*\}\}$/.exec(part.value)?.[1];
    if (whole !== undefined) return inputAt(whole, part.place) ?? part;
    const text = part.value.replace(BLOCK, (block, input: string) => {
      const value = inputAt(input, part.place);
      return value === undefined ? block : asText(value);
    });
    return textNode(text, part.place);
  };
  return walk(node);
}
