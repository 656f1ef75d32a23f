/** The parts of a TOML text with their places, and how to find one. */

interface Place {
  /** Offset of the key, or of the header, that made this node. */
  readonly at: number;
  /** The value's characters `[start, end)`; for a table made by headers, its first header. */
  readonly start: number;
  end: number;
}
export interface TableNode extends Place {
  readonly kind: "table";
  readonly keys: Map<string, LayoutNode>;
}
export interface ArrayNode extends Place {
  readonly kind: "array";
  readonly items: LayoutNode[];
  /** Written `[a, b]`, not as `[[headers]]`. */
  readonly inline: boolean;
}
interface ValueNode extends Place {
  readonly kind: "value";
}
export type LayoutNode = TableNode | ArrayNode | ValueNode;

/** A table without keys, made at `at`. */
export function table(at: number): TableNode {
  return { kind: "table", at, start: at, end: at, keys: new Map() };
}

/** The node at `path`, or the last one on the way that exists. Key names match whatever their case. */
export function nodeAt(root: LayoutNode, path: readonly PropertyKey[]): LayoutNode {
  let node = root;
  for (const part of path) {
    let next: LayoutNode | undefined;
    if (node.kind === "array" && typeof part === "number") next = node.items[part];
    else if (node.kind === "table") next = childOf(node, String(part));
    if (next === undefined) return node;
    node = next;
  }
  return node;
}

/** The value of `key` in `node`, whatever the key's case. */
export function childOf(node: TableNode, key: string): LayoutNode | undefined {
  const exact = node.keys.get(key);
  if (exact !== undefined) return exact;
  const folded = key.toLowerCase();
  for (const [name, child] of node.keys) if (name.toLowerCase() === folded) return child;
  return undefined;
}
