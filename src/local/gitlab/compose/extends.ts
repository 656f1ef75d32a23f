import type { Findings } from "../read/findings.ts";
import { at, type Entry, isNull, type Node, type Table, textOf } from "../read/node.ts";
import { mergeDeep } from "./merge.ts";

const MOST_LEVELS = 11;

/** Every table at the top gets what its parents have. */
export function resolveExtends(top: Table, findings: Findings): Table {
  const done = new Map<string, { node: Node; levels: number }>();
  const open: string[] = [];
  const resolve = (name: string, entry: Entry): { node: Node; levels: number } => {
    const known = done.get(name);
    if (known !== undefined) return known;
    const wanted = at(entry.value, "extends");
    const plain = { node: entry.value, levels: 0 };
    if (wanted === undefined || isNull(wanted)) return plain;
    if (open.includes(name)) {
      const circle = [...open.slice(open.indexOf(name)), name].join(" → ");
      findings.error(wanted.place, `${name}: circular dependency detected in extends: ${circle}`);
      return plain;
    }
    if (open.length > 2 * MOST_LEVELS) return { node: entry.value, levels: MOST_LEVELS + 1 };
    open.push(name);
    let merged: Node | undefined;
    let levels = 0;
    for (const parent of parentsOf(wanted, name, findings)) {
      const found = top.entries.get(parent.text);
      if (found === undefined) {
        findings.error(parent.node.place, `${name}: unknown keys in extends (${parent.text})`);
        continue;
      }
      if (found.value.kind !== "table") {
        findings.error(parent.node.place, `${name}: invalid base hashes in extends (${parent.text})`);
        continue;
      }
      const base = resolve(parent.text, found);
      levels = Math.max(levels, base.levels + 1);
      merged = merged === undefined ? base.node : mergeDeep(merged, base.node);
    }
    open.pop();
    if (levels === MOST_LEVELS + 1)
      findings.error(wanted.place, `${name}: nesting too deep in extends: at most ${MOST_LEVELS} levels are allowed`);
    const result = { node: merged === undefined ? entry.value : mergeDeep(merged, entry.value), levels };
    done.set(name, result);
    return result;
  };
  const entries = new Map<string, Entry>();
  for (const [name, entry] of top.entries) entries.set(name, { ...entry, value: resolve(name, entry).node });
  return { ...top, entries };
}

function parentsOf(node: Node, name: string, findings: Findings): { text: string; node: Node }[] {
  const items = node.kind === "list" ? node.items : [node];
  return items.flatMap((item) => {
    const text = item.kind === "reference" ? "!reference" : textOf(item);
    if (text !== undefined) return [{ text, node: item }];
    findings.error(item.place, `${name}: extends must be a text, or a list of texts`);
    return [];
  });
}
