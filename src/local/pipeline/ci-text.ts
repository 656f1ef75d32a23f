import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument, visit } from "yaml";
import { ConfigError } from "../../errors.ts";
import { isWire, type Wire } from "../coordinator/http/wire.ts";

/** A YAML or JSON document and where its parts stand. */
export interface CiText {
  readonly value: Wire;
  /** The same with numbers as they are written, for what becomes text: `3.0` and `1187654321098765432` are no number of ours. */
  readonly texts: Wire;
  /** `file:line:column` of the deepest part of `path` that exists. */
  at(path: readonly PropertyKey[]): string;
  /** From 1. */
  lineOf(path: readonly PropertyKey[]): number;
}

/** @throws {ConfigError} the text is neither YAML nor JSON, or not a table */
export function readCiText(text: string, file: string): CiText {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, merge: true, prettyErrors: false });
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  };
  const [error] = document.errors;
  if (error !== undefined) {
    const [start] = error.pos;
    const key = error.code === "DUPLICATE_KEY" ? /^["']?([^"':\n]*)/.exec(text.slice(start))?.[1] : undefined;
    const what = key === undefined ? error.message : `${JSON.stringify(key)} stands here for the second time`;
    throw new ConfigError(`${place(start)}: ${what}`, { file, line: lines.linePos(start).line });
  }
  visit(document, {
    Alias(_, alias) {
      if (alias.resolve(document) !== undefined) return;
      const at = alias.range?.[0] ?? 0;
      const problem = `there is no anchor &${alias.source} before this *${alias.source}`;
      throw new ConfigError(`${place(at)}: ${problem}`, { file, line: lines.linePos(at).line });
    },
  });
  writtenNumbers(document, "key");
  let value: unknown;
  let texts: unknown;
  try {
    value = document.toJS();
    writtenNumbers(document, "value");
    texts = document.toJS();
  } catch (cause) {
    // Aliases that multiply beyond measure, or that point nowhere.
    throw new ConfigError(`${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { file, cause });
  }
  if (!isWire(value) || !isWire(texts))
    throw new ConfigError(`${place(0)}: the file must be a table of jobs`, { file, line: 1 });
  return {
    value,
    texts,
    at: (path) => place(offsetOf(document, path)),
    lineOf: (path) => Math.max(lines.linePos(offsetOf(document, path)).line, 1),
  };
}

/** Numbers among the names, or among the values, become the text that stands in the file. */
function writtenNumbers(document: Document.Parsed, which: "key" | "value"): void {
  visit(document, {
    Scalar(place, scalar) {
      if (typeof scalar.value !== "number" || scalar.source === undefined) return;
      if ((place === "key") === (which === "key")) scalar.value = scalar.source;
    },
  });
}

function offsetOf(document: Document.Parsed, path: readonly PropertyKey[]): number {
  let node: unknown = document.contents;
  let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
  for (const [index, key] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    const last = index === path.length - 1;
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key));
      if (pair === undefined) break;
      // A job is where its name stands, a value is where it begins.
      const place = last && isScalar(pair.value) ? pair.value : pair.key;
      offset = isNode(place) ? (place.range?.[0] ?? offset) : offset;
      node = pair.value;
    } else if (isSeq(node) && typeof key === "number") {
      node = node.items[key];
      offset = isNode(node) ? (node.range?.[0] ?? offset) : offset;
    } else break;
  }
  return offset;
}
