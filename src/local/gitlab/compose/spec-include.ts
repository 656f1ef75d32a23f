import { readDocuments } from "../read/document.ts";
import type { Findings } from "../read/findings.ts";
import { at, type Entry, isNull, type Node, type Table } from "../read/node.ts";
import type { FindIncluded, IncludedFile } from "./find-included.ts";

const MOST_FILES = 150;

/** A header with the inputs that files of its `spec:include` declare. Those files have nothing but inputs. */
export async function withIncludedInputs(
  header: Node,
  from: IncludedFile,
  findIncluded: FindIncluded,
  findings: Findings,
): Promise<Node> {
  const spec = at(header, "spec");
  const include = at(spec, "include");
  if (header.kind !== "table" || spec?.kind !== "table" || include === undefined || isNull(include)) return header;
  if (from.component.size > 0) {
    findings.error(include.place, "spec:include is not allowed in components");
    return header;
  }
  const own = at(spec, "inputs");
  const inputs = new Map<string, Entry>(own?.kind === "table" ? own.entries : []);
  const items = include.kind === "list" ? include.items : [include];
  if (items.length > MOST_FILES)
    findings.error(include.place, `a maximum of ${MOST_FILES} nested includes are allowed`);
  for (const item of items.slice(0, MOST_FILES)) {
    if (at(item, "component") !== undefined || at(item, "template") !== undefined) {
      findings.error(item.place, "spec:include takes only local, project and remote files");
      continue;
    }
    for (const file of await findIncluded(item, from))
      for (const [name, entry] of declaredIn(file, findings)) {
        if (inputs.has(name)) findings.error(entry.place, `input "${name}" is declared twice: in ${from.name}, too`);
        inputs.set(name, entry);
      }
  }
  const { place } = include;
  const declared: Table = { kind: "table", entries: inputs, place: own?.place ?? place };
  const whole: Table = {
    ...spec,
    entries: new Map([...spec.entries, ["inputs", { place, textual: true, value: declared }]]),
  };
  return { ...header, entries: new Map([...header.entries, ["spec", { place, textual: true, value: whole }]]) };
}

function declaredIn(file: IncludedFile, findings: Findings): ReadonlyMap<string, Entry> {
  const content = readDocuments(file.text, file.name, findings)?.content;
  if (content === undefined) return new Map();
  const inputs = at(content, "inputs");
  if (content.kind === "table" && content.entries.size === 1 && inputs?.kind === "table") return inputs.entries;
  findings.error(content.place, `${file.name} must have inputs and nothing else, as it is included by a header`);
  return new Map();
}
