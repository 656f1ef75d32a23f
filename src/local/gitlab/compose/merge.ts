import type { Entry, Node } from "../read/node.ts";

/** Tables key by key, the later one wins; all else replaces. Parts that are not touched are shared. */
export function mergeDeep(earlier: Node, later: Node): Node {
  if (earlier.kind !== "table" || later.kind !== "table") return later;
  const entries = new Map<string, Entry>(earlier.entries);
  for (const [key, entry] of later.entries) {
    const before = entries.get(key);
    entries.set(key, before === undefined ? entry : { ...entry, value: mergeDeep(before.value, entry.value) });
  }
  return { kind: "table", entries, place: later.place };
}
