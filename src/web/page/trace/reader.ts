import { type Look, PLAIN, withCodes } from "./colors.ts";

/** A trace's text → lines with colours, and where sections begin and end. */

export interface Piece {
  readonly text: string;
  readonly look: Look;
}

export type Change =
  | { readonly kind: "line"; readonly pieces: readonly Piece[] }
  /** The next line is its heading. */
  | { readonly kind: "start"; readonly name: string; readonly at: number; readonly collapsed: boolean }
  | { readonly kind: "end"; readonly name: string; readonly at: number };

export interface TraceReader {
  /** @returns what is complete with this text */
  write(text: string): Change[];
  /** The line that has not ended yet. */
  readonly rest: readonly Piece[];
}

/** A line that is longer is shown as several. */
const LONGEST_LINE = 16_384;

const MARKER = /section_(start|end):(\d{1,15}):([A-Za-z0-9._-]+)(\[[^\]\r\n]*\])?\r(?:\x1b\[0?K)?/g;
const ESCAPE =
  /\x1b\[([0-9;:]*)m|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f]/g;

export function createTraceReader(): TraceReader {
  let unread = "";
  let look = PLAIN;
  const readLine = (raw: string): Change[] => {
    const changes: Change[] = [];
    let at = 0;
    for (const marker of raw.matchAll(MARKER)) {
      const [whole, edge, seconds, name = "", options = ""] = marker;
      const before = raw.slice(at, marker.index);
      if (seen(before) !== "") changes.push(lineOf(before));
      at = marker.index + whole.length;
      if (edge === "end") changes.push({ kind: "end", name, at: Number(seconds) });
      else changes.push({ kind: "start", name, at: Number(seconds), collapsed: /\bcollapsed=true\b/.test(options) });
    }
    const text = raw.slice(at);
    const last = changes.at(-1);
    // A marker that ends a section has a line of its own, which shows nothing.
    if (last?.kind !== "end" || seen(text) !== "") changes.push(lineOf(text));
    return changes;
  };
  const lineOf = (raw: string): Change => {
    const { pieces, after } = piecesOf(raw, look);
    look = after;
    return { kind: "line", pieces };
  };
  return {
    write(text) {
      unread += text;
      const lines = unread.split("\n");
      unread = lines.pop() ?? "";
      const changes = lines.flatMap(readLine);
      while (unread.length > LONGEST_LINE) {
        changes.push(...readLine(unread.slice(0, LONGEST_LINE)));
        unread = unread.slice(LONGEST_LINE);
      }
      return changes;
    },
    get rest() {
      return piecesOf(unread.replace(MARKER, ""), look).pieces;
    },
  };
}

/** What stays of a line once what returns to its beginning has overwritten it. */
function piecesOf(raw: string, look: Look): { pieces: Piece[]; after: Look } {
  const line = raw.replace(/\r+$/, "");
  const overwritten = line.lastIndexOf("\r") + 1;
  let now = look;
  let at = 0;
  const pieces: Piece[] = [];
  const push = (from: number, to: number): void => {
    const text = line.slice(Math.max(from, overwritten), to);
    if (text !== "") pieces.push({ text, look: now });
  };
  for (const found of line.matchAll(ESCAPE)) {
    push(at, found.index);
    at = found.index + found[0].length;
    if (found[1] !== undefined) now = withCodes(now, found[1]);
  }
  push(at, line.length);
  return { pieces, after: now };
}

function seen(text: string): string {
  return text.replace(ESCAPE, "");
}
