import type { Lookup } from "../decide/expand.ts";
import { readDocuments } from "../read/document.ts";
import { isNull, type Node, type Table } from "../read/node.ts";
import { createFinder, type IncludedFile, type IncludeOptions } from "./find-included.ts";
import { type GivenInputs, resolveInputs } from "./inputs.ts";
import { interpolate } from "./interpolate.ts";
import { mergeDeep } from "./merge.ts";
import { withIncludedInputs } from "./spec-include.ts";

const MOST_FILES = 150;

/** Where a pipeline begins: a file, or the `include` of a job that starts a child pipeline. */
export type MainFile =
  | {
      readonly text: string;
      /** The name that messages use. */
      readonly name: string;
      readonly inputs: GivenInputs;
    }
  | { readonly include: Node };

/**
 * A file with all that it includes merged beneath it: header interpolated, includes resolved, each file complete for itself.
 * @returns `undefined`: it is no CI file; the findings say why
 */
export async function composeFile(file: MainFile, options: IncludeOptions): Promise<Table | undefined> {
  const { sources, around, findings } = options;
  const lookup: Lookup = (name) => around.given.get(name) ?? around.predefined.get(name);
  const findIncluded = createFinder(options, lookup);
  let files = 0;
  let full = false;

  const compose = async (from: IncludedFile): Promise<Table | undefined> => {
    const documents = readDocuments(from.text, from.name, findings);
    if (documents === undefined) return undefined;
    const header =
      documents.header === undefined
        ? undefined
        : await withIncludedInputs(documents.header, from, findIncluded, findings);
    if (header === undefined && from.inputs.values.size > 0)
      findings.error(from.inputs.place, `${from.name} takes no inputs: it has no spec:inputs`);
    const inputs = header === undefined ? new Map() : resolveInputs(header, from.inputs, lookup, findings);
    const content =
      header === undefined || findings.errors.length > 0
        ? documents.content
        : interpolate(documents.content, { inputs, component: from.component, lookup }, findings);
    if (content.kind !== "table") {
      findings.error(
        content.place.line > 1 ? content.place : { ...content.place, line: 1 },
        `invalid configuration format: ${from.name} must be a table of jobs${isNull(content) ? ", and it is empty" : ""}`,
      );
      return undefined;
    }
    return await withIncluded(content, from);
  };

  const withIncluded = async (content: Table, from: IncludedFile): Promise<Table> => {
    const include = content.entries.get("include");
    if (include === undefined) return content;
    let beneath: Table | undefined;
    for (const entry of await entriesOf(include.value, from)) {
      const composed = await compose(entry);
      if (composed === undefined) continue;
      const merged: Node = beneath === undefined ? composed : mergeDeep(beneath, composed);
      if (merged.kind === "table") beneath = merged;
    }
    const entries = new Map(content.entries);
    entries.delete("include");
    const own: Table = { ...content, entries };
    const whole = beneath === undefined ? own : mergeDeep(beneath, own);
    return whole.kind === "table" ? whole : own;
  };

  const entriesOf = async (node: Node, from: IncludedFile): Promise<IncludedFile[]> => {
    const items = node.kind === "list" ? node.items : isNull(node) ? [] : [node];
    const found: IncludedFile[] = [];
    for (const item of items) {
      for (const one of await findIncluded(item, from)) {
        if (full) return found;
        if (++files > MOST_FILES) {
          full = true;
          findings.error(item.place, `a maximum of ${MOST_FILES} nested includes are allowed`);
          return found;
        }
        found.push(one);
      }
    }
    return found;
  };

  const main = { tree: sources.own, component: new Map<string, string>() };
  if (!("include" in file)) return await compose({ ...file, ...main, place: file.inputs.place });
  const { place } = file.include;
  const content: Table = {
    kind: "table",
    entries: new Map([["include", { place, textual: true, value: file.include }]]),
    place,
  };
  return await withIncluded(content, { ...main, text: "", name: "", inputs: { values: new Map(), place }, place });
}
