import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Pair,
  parseDocument,
  type Alias as YamlAlias,
  type Node as YamlNode,
} from "yaml";
import type { Findings } from "./findings.ts";
import { type Entry, isNull, type Node, nullNode, type Place, textNode } from "./node.ts";
import { plainScalar } from "./scalars.ts";

/** GitLab's limit for one YAML text with all its aliases put in. */
const MOST_BYTES = 2 * 1024 * 1024;
const MOST_LEVELS = 100;

/** A file's two parts: what it wants to be given, and what it is. */
export interface Documents {
  /** `spec:` and the like; `undefined`: the file has no header. */
  readonly header: Node | undefined;
  readonly content: Node;
}

/**
 * The text of a file. GitLab cuts it at lines `---`, takes the first part with `spec` as header, and reads the last one
 * behind it; without a header only the first part counts.
 * @returns `undefined`: it is no YAML that GitLab would read; `findings` say why
 */
export function readDocuments(text: string, file: string, findings: Findings): Documents | undefined {
  const start = { file, line: 1, column: 1 };
  if (Buffer.byteLength(text) > MOST_BYTES) {
    findings.error(start, `the file is larger than ${MOST_BYTES} bytes, which is the most that GitLab reads`);
    return undefined;
  }
  // A licence in front of the first line `---` is no document of its own.
  const parts = cut(text.replace(/^\uFEFF/, "")).filter((part) => /^[^\S\n]*[^\s#]/m.test(part.text));
  const [first, second, third] = parts;
  if (first === undefined) return { header: undefined, content: nullNode(start) };
  const head = readPart(first.text, first.line, file, findings);
  if (head === undefined) return undefined;
  if (head.kind !== "table" || !head.entries.has("spec")) {
    if (second !== undefined)
      findings.warn(
        { file, line: second.line, column: 1 },
        "GitLab reads only the first document of a file without spec: what follows here is ignored",
      );
    return { header: undefined, content: head };
  }
  if (third !== undefined) {
    findings.error(
      { file, line: third.line, column: 1 },
      "too many documents: a file has a header with spec and one content",
    );
    return undefined;
  }
  if (second === undefined) return { header: head, content: nullNode(start) };
  const content = readPart(second.text, second.line, file, findings);
  return content === undefined ? undefined : { header: head, content };
}

interface Part {
  readonly text: string;
  /** Its first line in the file. */
  readonly line: number;
}

function cut(text: string): Part[] {
  const parts: Part[] = [];
  let lines: string[] = [];
  let line = 1;
  const all = text.split("\n");
  for (const [index, one] of all.entries()) {
    if (!/^---\s*$/.test(one)) {
      lines.push(one);
      continue;
    }
    parts.push({ text: lines.join("\n"), line });
    lines = [];
    line = index + 2;
  }
  parts.push({ text: lines.join("\n"), line });
  return parts;
}

function readPart(text: string, firstLine: number, file: string, findings: Findings): Node | undefined {
  const counter = new LineCounter();
  const placeAt = (offset: number): Place => {
    const { line, col } = counter.linePos(offset);
    return { file, line: Math.max(line, 1) + firstLine - 1, column: Math.max(col, 1) };
  };
  try {
    const document = parseDocument(text, {
      lineCounter: counter,
      // All words as they are written: what they mean to GitLab is decided below.
      schema: "failsafe",
      merge: false,
      uniqueKeys: false,
      prettyErrors: false,
      logLevel: "silent",
    });
    const [error] = document.errors;
    if (error !== undefined) {
      findings.error(placeAt(error.pos[0]), `this is no YAML: ${error.message}`);
      return undefined;
    }
    const reader = createReader(placeAt, findings);
    const node = document.contents === null ? nullNode(placeAt(0)) : reader.read(document.contents, 1);
    if (reader.failed()) return undefined;
    return node;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    findings.error(placeAt(0), `the file is nested deeper than ${MOST_LEVELS} levels`);
    return undefined;
  }
}

function createReader(placeAt: (offset: number) => Place, findings: Findings) {
  const anchors = new Map<string, Node | "open">();
  const measures = new Map<Node, { bytes: number; levels: number }>();
  let failed = false;
  const fail = (place: Place, text: string): Node => {
    failed = true;
    findings.error(place, text);
    return nullNode(place);
  };

  /** Size with aliases put in; each shared part is measured once. */
  const measured = (node: Node): Node => {
    const parts =
      node.kind === "list"
        ? node.items
        : node.kind === "table"
          ? [...node.entries.values()].map(({ value }) => value)
          : node.kind === "reference"
            ? node.path.items
            : [];
    let bytes = node.kind === "scalar" ? node.text.length + 2 : 2;
    let levels = 0;
    if (node.kind === "table") for (const key of node.entries.keys()) bytes += key.length + 2;
    for (const part of parts) {
      const measure = measures.get(part);
      bytes += measure?.bytes ?? 2;
      levels = Math.max(levels, measure?.levels ?? 0);
    }
    measures.set(node, { bytes, levels: levels + 1 });
    if (levels + 1 > MOST_LEVELS && !failed)
      return fail(node.place, `the file is nested deeper than ${MOST_LEVELS} levels`);
    if (bytes > MOST_BYTES && !failed)
      return fail(
        node.place,
        `with its aliases put in the file is larger than ${MOST_BYTES} bytes, which is the most that GitLab reads`,
      );
    return node;
  };

  const alias = (node: YamlAlias, place: Place): Node => {
    const found = anchors.get(node.source);
    if (found === "open") return fail(place, `the alias *${node.source} stands inside of what it means`);
    return (
      found ?? fail(place, `unknown alias *${node.source}: there is no anchor &${node.source} before it in this file`)
    );
  };

  const scalar = (source: string, plain: boolean, tag: string | undefined, place: Place): Node => {
    if (!plain || tag === "tag:yaml.org,2002:str" || tag === "!") return textNode(source, place);
    const found = plainScalar(source);
    if (found !== "date") {
      // A number keeps nothing of how it was written.
      if (typeof found.value === "number" && found.text !== source)
        findings.hint(place, `${source} is the number ${found.text} for GitLab: write "${source}" if it is a text`);
      return { kind: "scalar", ...found, place };
    }
    return fail(place, `${source} is a date for GitLab, which takes none: write it in quotes`);
  };

  const pairInto = (entries: Map<string, Entry>, pair: Pair, place: Place, level: number): void => {
    const keyNode = pair.key;
    const keyPlace = isYamlNode(keyNode) ? placeAt(keyNode.range?.[0] ?? 0) : place;
    const key = isYamlNode(keyNode) ? read(keyNode, level + 1) : nullNode(place);
    const value = isYamlNode(pair.value) ? read(pair.value, level + 1) : nullNode(keyPlace);
    if (key.kind !== "scalar") {
      fail(keyPlace, "a key must be a text");
      return;
    }
    if (key.value === "<<" && isScalar(keyNode) && keyNode.tag === undefined) {
      mergeInto(entries, value, keyPlace);
      return;
    }
    const name = typeof key.value === "string" ? key.value : key.value === null ? "" : key.text;
    const before = entries.get(name);
    if (before !== undefined && !merged.has(before))
      findings.warn(
        keyPlace,
        `"${name}" stands here for the second time, after line ${before.place.line}: GitLab takes the last one`,
      );
    entries.set(name, { place: keyPlace, textual: typeof key.value === "string", value });
  };

  const merged = new WeakSet<Entry>();
  /** Adds the keys at the place of the merge key: keys before it are overwritten, although YAML says otherwise. */
  const mergeInto = (entries: Map<string, Entry>, value: Node, place: Place): void => {
    const sources = value.kind === "list" ? value.items.toReversed() : [value];
    for (const source of sources) {
      if (source.kind !== "table") {
        fail(place, "<< takes a table, or a list of tables, by their aliases");
        return;
      }
      for (const [key, entry] of source.entries) {
        const before = entries.get(key);
        if (before !== undefined && !merged.has(before))
          findings.warn(place, `<< stands after "${key}" and overwrites it: put << first to keep what is written here`);
        const copy = { ...entry };
        merged.add(copy);
        entries.set(key, copy);
      }
    }
  };

  const read = (node: YamlNode, level: number): Node => {
    const place = placeAt(node.range?.[0] ?? 0);
    if (level > MOST_LEVELS * 2) throw new RangeError("nested too deep");
    if (isAlias(node)) return alias(node, place);
    const anchor = "anchor" in node && typeof node.anchor === "string" ? node.anchor : undefined;
    if (anchor !== undefined) anchors.set(anchor, "open");
    const made = measured(make(node, place, level));
    if (anchor !== undefined) anchors.set(anchor, made);
    return made;
  };

  const make = (node: YamlNode, place: Place, level: number): Node => {
    if (isScalar(node)) {
      const plain = node.type === "PLAIN" || node.type === undefined;
      return scalar(plain ? (node.source ?? String(node.value ?? "")) : String(node.value), plain, node.tag, place);
    }
    if (isSeq(node)) {
      const items = node.items.map((item) => (isYamlNode(item) ? read(item, level + 1) : nullNode(place)));
      const list: Node = { kind: "list", items, place };
      return node.tag === "!reference" ? { kind: "reference", path: list, place } : list;
    }
    if (isMap(node)) {
      const entries = new Map<string, Entry>();
      for (const pair of node.items) pairInto(entries, pair, place, level);
      return { kind: "table", entries, place };
    }
    return fail(place, "this is no part of a CI file");
  };

  return {
    read: (node: YamlNode, level: number): Node => {
      const made = read(node, level);
      return isNull(made) ? nullNode(made.place) : made;
    },
    failed: () => failed,
  };
}

function isYamlNode(value: unknown): value is YamlNode {
  return isScalar(value) || isSeq(value) || isMap(value) || isAlias(value);
}
