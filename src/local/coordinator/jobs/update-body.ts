import { isUtf8 } from "node:buffer";

/** Where the text of `trace` goes, piece by piece. */
export interface TraceSink {
  /** A trace begins; what came before was not the last word. */
  begin(): void;
  write(text: string): void;
}

export interface UpdateReader {
  /** @throws {SyntaxError} this is not JSON */
  write(chunk: Buffer): void;
  /** All fields; a text under `trace` went to the sink and is `""` here. @throws {SyntaxError} */
  end(): Readonly<Record<string, unknown>>;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * Reads the JSON object of a job update while it arrives, so that a trace of any length is never one string.
 * As strict as AlloyCI's parser: raw control characters, lone surrogates and bytes that are no UTF-8 are refused.
 */
export function createUpdateReader(sink: TraceSink): UpdateReader {
  /** JSON text outside of the trace, and how far it was looked at. */
  let head = "";
  let at = 0;
  let depth = 0;
  let stringStart = -1;
  let lastKey = "";
  let afterColon = false;
  /** Text of the trace that could not be decoded yet; `undefined` outside of it. */
  let inside: string | undefined;
  let tail: Buffer = Buffer.alloc(0);

  const scan = (): void => {
    for (; at < head.length; at++) {
      const unit = head.charCodeAt(at);
      if (stringStart >= 0) {
        if (unit === BACKSLASH) at++;
        else if (unit === QUOTE) {
          if (depth === 1 && !afterColon) lastKey = head.slice(stringStart + 1, at);
          stringStart = -1;
        }
      } else if (unit === QUOTE) {
        if (depth === 1 && afterColon && lastKey === "trace") {
          inside = head.slice(at + 1);
          head = head.slice(0, at);
          sink.begin();
          return;
        }
        stringStart = at;
      } else if (unit === 0x7b || unit === 0x5b) depth++;
      else if (unit === 0x7d || unit === 0x5d) depth--;
      else if (depth === 1 && unit === 0x3a) afterColon = true;
      else if (depth === 1 && unit === 0x2c) afterColon = false;
    }
  };

  const deliver = (json: string): void => {
    if (json === "") return;
    const text: unknown = JSON.parse(`"${json}"`);
    if (typeof text !== "string" || !text.isWellFormed()) throw new SyntaxError("A lone surrogate in the trace");
    sink.write(text);
  };

  const decode = (text: string): void => {
    const end = closingQuote(text);
    if (end < 0) {
      const cut = safeCut(text);
      deliver(text.slice(0, cut));
      inside = text.slice(cut);
      return;
    }
    deliver(text.slice(0, end));
    inside = undefined;
    head += '""';
    at = head.length;
    head += text.slice(end + 1);
  };

  const step = (text: string): void => {
    if (inside !== undefined) decode(inside + text);
    else head += text;
    while (inside === undefined && at < head.length) {
      scan();
      if (inside !== undefined) decode(inside);
    }
  };

  return {
    write(chunk) {
      const bytes = tail.length === 0 ? chunk : Buffer.concat([tail, chunk]);
      const whole = bytes.length - unfinishedCharacter(bytes);
      const text = bytes.subarray(0, whole);
      if (!isUtf8(text)) throw new SyntaxError("The body is not UTF-8");
      tail = Buffer.from(bytes.subarray(whole));
      step(text.toString("utf8"));
    },
    end() {
      if (tail.length > 0 || inside !== undefined) throw new SyntaxError("The body ends too early");
      const fields: unknown = JSON.parse(head);
      if (typeof fields !== "object" || fields === null || Array.isArray(fields))
        throw new SyntaxError("The body is not a JSON object");
      return { ...fields };
    },
  };
}

/** Index of the quote that ends the JSON string whose inside `text` is, or -1. `text` does not begin within an escape. */
function closingQuote(text: string): number {
  for (let quote = text.indexOf('"'); quote >= 0; quote = text.indexOf('"', quote + 1))
    if (backslashesBefore(text, quote) % 2 === 0) return quote;
  return -1;
}

/** The last place where the inside of a JSON string can be cut: not within an escape, not within a surrogate pair. */
function safeCut(text: string): number {
  for (let cut = text.length; cut > 0; cut--) if (!splits(text, cut)) return cut;
  return 0;
}

function splits(text: string, cut: number): boolean {
  if (backslashesBefore(text, cut) % 2 === 1) return true;
  const before = text.charCodeAt(cut - 1);
  if (before >= 0xd800 && before <= 0xdbff) return true;
  for (let back = 2; back <= 6; back++) {
    const start = cut - back;
    if (text.charCodeAt(start) !== BACKSLASH || backslashesBefore(text, start) % 2 === 1) continue;
    // Six back is a complete escape; it may be the first half of a pair whose second half is still to come.
    return text.charAt(start + 1) === "u" && (back < 6 || /^d[89ab]/i.test(text.slice(start + 2, start + 4)));
  }
  return false;
}

function backslashesBefore(text: string, index: number): number {
  let count = 0;
  while (text.charCodeAt(index - 1 - count) === BACKSLASH) count++;
  return count;
}

/** How many bytes at the end of `bytes` begin a character that is not complete; 0–3. */
function unfinishedCharacter(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0;
  }
  return 0;
}
