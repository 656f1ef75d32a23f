import type { Findings } from "../read/findings.ts";
import { type Entry, isNull, type Node, nullNode, type Reference, type Table, textOf } from "../read/node.ts";

/** Every `!reference` becomes what it points at, in the merged file. A list in a list stays one. */
export function resolveReferences(top: Table, findings: Findings): Table {
  const done = new Map<Node, Node>();
  const open: Node[] = [];

  const target = (reference: Reference): Node => {
    const names = reference.path.items.map(textOf);
    const shown = names.map((name) => name ?? "?").join(", ");
    if (names.length === 0 || names.some((name) => name === undefined || name === "")) {
      findings.error(reference.place, `!reference [${shown}] is not valid: it is a list of names`);
      return nullNode(reference.place);
    }
    let node: Node = top;
    for (const name of names) {
      if (node.kind === "reference") node = resolve(node);
      const found: Entry | undefined = node.kind === "table" ? node.entries.get(name ?? "") : undefined;
      if (found === undefined) return missing(reference, shown);
      node = found.value;
    }
    if (isNull(node) || (node.kind === "scalar" && node.value === false)) return missing(reference, shown);
    return resolve(node);
  };
  const missing = (reference: Reference, shown: string): Node => {
    findings.error(reference.place, `!reference [${shown}] could not be found`);
    return nullNode(reference.place);
  };
  const make = (node: Node): Node => {
    if (node.kind === "reference") return target(node);
    if (node.kind === "list") {
      const items = node.items.map(resolve);
      return items.every((item, index) => item === node.items[index]) ? node : { ...node, items };
    }
    if (node.kind !== "table") return node;
    let changed = false;
    const entries = new Map<string, Entry>();
    for (const [key, entry] of node.entries) {
      const value = resolve(entry.value);
      changed ||= value !== entry.value;
      entries.set(key, value === entry.value ? entry : { ...entry, value });
    }
    return changed ? { ...node, entries } : node;
  };
  const resolve = (node: Node): Node => {
    if (node.kind === "scalar") return node;
    const known = done.get(node);
    if (known !== undefined) return known;
    if (open.includes(node) && node.kind === "reference") {
      const shown = node.path.items.map((item) => textOf(item) ?? "?").join(", ");
      findings.error(node.place, `!reference [${shown}] is part of a circular chain`);
      return nullNode(node.place);
    }
    // A reference to a table around itself comes by that table again.
    if (open.includes(node)) {
      findings.error(node.place, "a !reference is part of a circular chain");
      return nullNode(node.place);
    }
    open.push(node);
    const made = make(node);
    open.pop();
    done.set(node, made);
    return made;
  };
  // The top is not changed, because references look up their names in it.
  const entries = new Map<string, Entry>();
  for (const [key, entry] of top.entries) entries.set(key, { ...entry, value: resolve(entry.value) });
  return { ...top, entries };
}
