import { type LayoutNode, type TableNode, table } from "./layout-node.ts";
import { lineIndex } from "./lines.ts";

/**
 * Where things stand in a TOML text. The parser tells values but no positions; messages need lines, and `save.ts` needs
 * the bytes of each entry. This reads structure only: what it does not understand it leaves to the parser to refuse.
 */

/** One `[header]` or `[[header]]` and all keys below it. */
export interface Section {
  /** Start of the header's line. */
  readonly start: number;
  /** End of the last key's line (of the header's, where it has none), line break included. */
  contentEnd: number;
  /** The nodes from the root to the table that the header opens. */
  readonly trail: readonly LayoutNode[];
}

export interface Layout {
  readonly root: TableNode;
  readonly sections: readonly Section[];
  /** End of the last key's line above all headers; 0 where there is none. */
  readonly headEnd: number;
  /** Line of an offset, from 1. */
  lineAt(offset: number): number;
  /** Why reading stopped early; the parser has the last word, but here is where it began. */
  readonly trouble: { readonly offset: number; readonly text: string } | null;
  /** Set when the text goes beyond what is read at all: the parser must not see it. */
  readonly excess: { readonly offset: number; readonly text: string } | null;
}

/** Deep nesting ends the parser's stack, and very many values its speed. No real file comes near either. */
const DEEPEST = 32;
export const MOST_VALUES = 50_000;

class Stopped extends Error {
  readonly offset: number;
  readonly excess: boolean;
  constructor(offset: number, text: string, excess = false) {
    super(text);
    this.offset = offset;
    this.excess = excess;
  }
}

const BARE_KEY = /[A-Za-z0-9_-]+/y;
const BLANK = /[ \t]*/y;
const SCALAR = /[^,\]}#\r\n]*/y;

/** Read the structure of `text`. Never throws; linear in its length. */
export function readLayout(text: string): Layout {
  const root = table(0);
  const sections: Section[] = [];
  let pos = text.startsWith("\uFEFF") ? 1 : 0;
  let values = 0;
  let headEnd = 0;

  const match = (pattern: RegExp): string => {
    pattern.lastIndex = pos;
    const found = pattern.exec(text)?.[0] ?? "";
    pos += found.length;
    return found;
  };
  const lineEnd = (from: number): number => {
    const found = text.indexOf("\n", from);
    return found < 0 ? text.length : found + 1;
  };
  const skipComment = (): void => {
    if (text[pos] === "#") {
      const found = text.indexOf("\n", pos);
      pos = found < 0 ? text.length : found;
    }
  };
  /** Blanks, line breaks and comments, as they may stand between the parts of an array. */
  const skipSpace = (): void => {
    for (;;) {
      match(BLANK);
      if (text[pos] === "\n" || text[pos] === "\r") pos++;
      else if (text[pos] === "#") skipComment();
      else return;
    }
  };

  /** `pos` is behind the closing quote afterwards. Returns the characters between the quotes, escapes untouched. */
  const readString = (): string => {
    const opened = pos;
    const quote = text.charAt(pos);
    const triple = text.startsWith(quote.repeat(3), pos);
    pos += triple ? 3 : 1;
    const from = pos;
    for (;;) {
      const c = text[pos];
      if (c === undefined || (c === "\n" && !triple)) throw new Stopped(opened, "this text has no closing quote");
      if (c === "\\" && quote === '"') pos += 2;
      else if (c !== quote) pos++;
      else if (!triple) return text.slice(from, pos++);
      else if (text.startsWith(quote.repeat(3), pos)) {
        const until = pos;
        pos += 3;
        // Up to two quotes may stand directly before the closing three.
        for (let more = 0; more < 2 && text[pos] === quote; more++) pos++;
        return text.slice(from, until);
      } else pos++;
    }
  };

  const readKey = (): string[] => {
    const path: string[] = [];
    for (;;) {
      match(BLANK);
      const at = pos;
      const c = text[pos];
      if (c === '"') path.push(decodeEscapes(readString()));
      else if (c === "'") path.push(readString());
      else {
        const bare = match(BARE_KEY);
        if (bare === "") throw new Stopped(pos, "a key was expected here");
        path.push(bare);
      }
      if (path.length > DEEPEST) throw new Stopped(at, `keys are nested deeper than ${DEEPEST} levels`, true);
      match(BLANK);
      if (text[pos] !== ".") return path;
      pos++;
    }
  };

  const readPair = (into: TableNode, depth: number): void => {
    const at = pos;
    const path = readKey();
    if (text[pos] !== "=") throw new Stopped(pos, 'a key must be followed by "="');
    pos++;
    match(BLANK);
    const value = readValue(at, depth + path.length);
    const last = path.pop() ?? "";
    let holder = into;
    for (const part of path) {
      let next = holder.keys.get(part);
      if (next === undefined) holder.keys.set(part, (next = table(at)));
      if (next.kind !== "table") throw new Stopped(at, "this key extends something that is not a table");
      holder = next;
    }
    if (!holder.keys.has(last)) holder.keys.set(last, value);
    holder.end = Math.max(holder.end, pos);
  };

  const readValue = (at: number, depth: number): LayoutNode => {
    if (++values > MOST_VALUES) throw new Stopped(at, `more than ${MOST_VALUES} values`, true);
    if (depth > DEEPEST) throw new Stopped(at, `values are nested deeper than ${DEEPEST} levels`, true);
    const start = pos;
    const c = text[pos];
    if (c === '"' || c === "'") {
      readString();
      return { kind: "value", at, start, end: pos };
    }
    if (c === "[") {
      const items: LayoutNode[] = [];
      pos++;
      for (;;) {
        skipSpace();
        if (text[pos] === "]") break;
        if (pos >= text.length) throw new Stopped(start, 'this list has no closing "]"');
        items.push(readValue(pos, depth + 1));
        skipSpace();
        if (text[pos] === ",") pos++;
        else if (pos < text.length && text[pos] !== "]") throw new Stopped(pos, 'a "," or "]" was expected here');
      }
      pos++;
      return { kind: "array", at, start, end: pos, items, inline: true };
    }
    if (c === "{") {
      const node: TableNode = { kind: "table", at, start, end: start, keys: new Map() };
      pos++;
      for (;;) {
        match(BLANK);
        if (text[pos] === "}") break;
        readPair(node, depth + 1);
        match(BLANK);
        if (text[pos] === ",") pos++;
        else if (text[pos] !== "}") throw new Stopped(start, 'this table has no closing "}" on its line');
      }
      pos++;
      node.end = pos;
      return node;
    }
    const raw = match(SCALAR);
    const end = start + raw.trimEnd().length;
    if (end === start) throw new Stopped(start, "a value was expected here");
    return { kind: "value", at, start, end };
  };

  const readHeader = (): TableNode => {
    const start = pos;
    const list = text.startsWith("[[", pos);
    pos += list ? 2 : 1;
    const path = readKey();
    if (!text.startsWith(list ? "]]" : "]", pos)) throw new Stopped(start, "this header is not closed");
    pos += list ? 2 : 1;
    if (++values > MOST_VALUES) throw new Stopped(start, `more than ${MOST_VALUES} values`, true);
    const trail: LayoutNode[] = [];
    let holder = root;
    for (const [index, part] of path.entries()) {
      const last = index === path.length - 1;
      let next = holder.keys.get(part);
      if (next === undefined) {
        next = last && list ? { kind: "array", at: start, start, end: start, items: [], inline: false } : table(start);
        holder.keys.set(part, next);
      }
      trail.push(next);
      if (next.kind === "array") {
        if (last && list && !next.inline) next.items.push(table(start));
        const item = next.items.at(-1);
        if (item?.kind !== "table") throw new Stopped(start, "this header extends something that is not a table");
        trail.push(item);
        next = item;
      }
      if (next.kind !== "table") throw new Stopped(start, "this header extends something that is not a table");
      holder = next;
    }
    const lineStart = text.lastIndexOf("\n", start - 1) + 1;
    sections.push({ start: lineStart, contentEnd: lineEnd(pos), trail });
    return holder;
  };

  let stopped: Stopped | null = null;
  try {
    let current = root;
    for (;;) {
      skipSpace();
      if (pos >= text.length) break;
      if (text[pos] === "[") current = readHeader();
      else readPair(current, 0);
      match(BLANK);
      const section = sections.at(-1);
      if (section === undefined) headEnd = lineEnd(pos);
      else section.contentEnd = lineEnd(pos);
      if (pos < text.length && text[pos] !== "\n" && text[pos] !== "\r" && text[pos] !== "#") {
        throw new Stopped(pos, "nothing more was expected on this line");
      }
    }
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    stopped = error;
  }
  const at = stopped === null ? null : { offset: stopped.offset, text: stopped.message };
  return { root, sections, headEnd, lineAt: lineIndex(text), trouble: at, excess: stopped?.excess ? at : null };
}

/** The text of a basic string's inside. Keys with escapes are rare; a wrong escape is the parser's to refuse. */
function decodeEscapes(raw: string): string {
  if (!raw.includes("\\")) return raw;
  return raw.replace(/\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))/gs, (whole, short, long, single) => {
    if (short === undefined && long === undefined) {
      return { b: "\b", t: "\t", n: "\n", f: "\f", r: "\r" }[String(single)] ?? String(single);
    }
    const code = Number.parseInt(String(short ?? long), 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : String(whole);
  });
}
