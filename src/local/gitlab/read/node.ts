/** A CI file as a tree in which every part knows where it was written, also after it was moved or merged. */

export interface Place {
  readonly file: string;
  /** Counted from 1, like the column. */
  readonly line: number;
  readonly column: number;
}

export interface Scalar {
  readonly kind: "scalar";
  readonly value: string | number | boolean | null;
  /** The text that GitLab makes of it: `1.10` is `1.1`, `012` is `10`. */
  readonly text: string;
  /** A number with a fraction in GitLab's eyes, also `3.0`. */
  readonly float: boolean;
  readonly place: Place;
}

export interface List {
  readonly kind: "list";
  readonly items: readonly Node[];
  readonly place: Place;
}

export interface Entry {
  /** Where the key stands. */
  readonly place: Place;
  /** `false`: a number, `true`, or nothing was written where a name belongs. */
  readonly textual: boolean;
  readonly value: Node;
}

export interface Table {
  readonly kind: "table";
  readonly entries: ReadonlyMap<string, Entry>;
  readonly place: Place;
}

/** `!reference [a, b]`, until it is resolved. */
export interface Reference {
  readonly kind: "reference";
  readonly path: List;
  readonly place: Place;
}

export type Node = Scalar | List | Table | Reference;

export function textNode(value: string, place: Place): Scalar {
  return { kind: "scalar", value, text: value, float: false, place };
}

export function nullNode(place: Place): Scalar {
  return { kind: "scalar", value: null, text: "", float: false, place };
}

export function isNull(node: Node | undefined): boolean {
  return node === undefined || (node.kind === "scalar" && node.value === null);
}

/** The text of a node that is one; of nothing else. */
export function textOf(node: Node | undefined): string | undefined {
  return node?.kind === "scalar" && typeof node.value === "string" ? node.value : undefined;
}

export function at(node: Node | undefined, key: string): Node | undefined {
  return node?.kind === "table" ? node.entries.get(key)?.value : undefined;
}

/** Plain data, for what needs no places. Tables have no prototype: any name can be a key. */
export function plain(node: Node): unknown {
  switch (node.kind) {
    case "scalar":
      return node.value;
    case "list":
      return node.items.map(plain);
    case "reference":
      return { "!reference": plain(node.path) };
    case "table": {
      const table: Record<string, unknown> = Object.create(null);
      for (const [key, entry] of node.entries) table[key] = plain(entry.value);
      return table;
    }
  }
}

/** Plain data as nodes that all stand at `place`. */
export function nodeOf(value: unknown, place: Place): Node {
  if (Array.isArray(value)) return { kind: "list", items: value.map((item) => nodeOf(item, place)), place };
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).map(
      ([key, item]) => [key, { place, textual: true, value: nodeOf(item, place) }] as const,
    );
    return { kind: "table", entries: new Map(entries), place };
  }
  if (typeof value === "number")
    return { kind: "scalar", value, text: String(value), float: !Number.isInteger(value), place };
  if (typeof value === "boolean") return { kind: "scalar", value, text: String(value), float: false, place };
  return typeof value === "string" ? textNode(value, place) : nullNode(place);
}

/** The deepest part of `path` that is there, and where it stands: a key's own place for a table or list below it. */
export function placeOf(node: Node, path: readonly PropertyKey[]): Place {
  let place = node.place;
  let current: Node | undefined = node;
  for (const key of path) {
    if (current?.kind === "table") {
      const entry: Entry | undefined = current.entries.get(String(key));
      if (entry === undefined) break;
      place = entry.value.kind === "scalar" && entry.value.text !== "" ? entry.value.place : entry.place;
      current = entry.value;
    } else if (current?.kind === "list") {
      const item: Node | undefined = current.items[Number(key)];
      if (item === undefined) break;
      place = item.place;
      current = item;
    } else break;
  }
  return place;
}

/** Where a key itself is written, in the table at `path`. */
export function keyPlaceOf(node: Node, path: readonly PropertyKey[], key: string): Place {
  let current: Node | undefined = node;
  for (const step of path) current = current?.kind === "list" ? current.items[Number(step)] : at(current, String(step));
  const entry = current?.kind === "table" ? current.entries.get(key) : undefined;
  return entry?.place ?? placeOf(node, path);
}
