import type { Node } from "./node.ts";

/** All files together, with what they take from one another put in. */
const MOST_BYTES = 16 * 1024 * 1024;

/** Whether `node` with all shared parts put in is more than is worked on. Each shared part is measured once. */
export function isTooLarge(node: Node): boolean {
  const known = new Map<Node, number>();
  const measure = (part: Node): number => {
    const before = known.get(part);
    if (before !== undefined) return before;
    let bytes = part.kind === "scalar" ? part.text.length + 2 : 2;
    if (part.kind === "list") for (const item of part.items) bytes += measure(item);
    if (part.kind === "reference") bytes += measure(part.path);
    if (part.kind === "table") for (const [key, { value }] of part.entries) bytes += key.length + measure(value);
    known.set(part, bytes);
    return bytes;
  };
  return measure(node) > MOST_BYTES;
}
