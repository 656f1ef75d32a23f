import { randomBytes } from "node:crypto";
import { Writable } from "node:stream";

/** A line that nobody can guess: no output can give it in the script's place. */
export function createProof(): string {
  return `alloy-runner-script-read-${randomBytes(16).toString("hex")}`;
}

/** A stretch of a script's output. */
export interface ProofLine {
  readonly at: number;
  readonly bytes: number;
}

export interface ProofOptions {
  readonly tailBytes?: number;
  /**
   * Goes on in the place of another: the next byte is that at `raw` of the output, and the line was seen at `line`. Of bytes before
   * `fresh` only the end is of interest: the other has passed them on.
   */
  readonly from?: { readonly raw: number; readonly line: ProofLine | null; readonly fresh?: number };
}

/** Between a script's output and the trace. */
export interface ProofFilter {
  readonly input: Writable;
  /** The line came: the shell has read the whole script. */
  readonly seen: boolean;
  /** Which bytes of the output it was, with its end; `null` until all of it came. */
  readonly line: ProofLine | null;
  /** What the script printed last, at most `tailBytes` of it. */
  tail(): string;
  /** To be called when nothing more comes: all is passed on, also what was held back because the line might begin with it. */
  close(): Promise<void>;
}

/**
 * Take the proof line out of a script's output, which may follow what a shell's profile printed, and pass everything else on.
 * From the line on chunks go through as they are; `output` is never ended.
 */
export function createProofFilter(
  proof: string,
  output: Writable,
  { tailBytes = 0, from }: ProofOptions = {},
): ProofFilter {
  const line = Buffer.from(proof);
  const lineFeed = 10;
  const carriageReturn = 13;
  let held: Buffer = Buffer.alloc(0);
  let found: ProofLine | null = from?.line ?? null;
  let state: "before" | "at line end" | "after" = found === null ? "before" : "after";
  /** Bytes of the output that came. */
  let raw = from?.raw ?? 0;
  let lineAt = 0;
  const last = createTail(tailBytes);

  const fresh = from?.fresh ?? 0;

  const forward = (chunk: Buffer): boolean => {
    if (chunk.length === 0) return true;
    if (state !== "before") last.add(chunk);
    return output.write(chunk);
  };

  /** What can be passed on of `chunk` by now; the rest is in `held`. */
  const sift = (chunk: Buffer): Buffer[] => {
    const at = raw;
    raw += chunk.length;
    if (found !== null && at < found.at + found.bytes) return aroundLine(chunk, at, found);
    if (state === "after") return [chunk];
    const text = held.length > 0 ? Buffer.concat([held, chunk]) : chunk;
    held = Buffer.alloc(0);
    if (state === "at line end") return [endLine(text)];
    const start = text.indexOf(line);
    if (start >= 0) {
      state = "at line end";
      lineAt = raw - text.length + start;
      return [text.subarray(0, start), endLine(text.subarray(start + line.length))];
    }
    const keep = prefixAtEnd(text, line);
    held = Buffer.from(text.subarray(text.length - keep));
    return [text.subarray(0, text.length - keep)];
  };

  /** The end of the proof's line goes with it, be it LF or CRLF. */
  const endLine = (text: Buffer): Buffer => {
    if (text.length === 0) return text;
    if (text.length === 1 && text[0] === carriageReturn) {
      held = Buffer.from(text);
      return Buffer.alloc(0);
    }
    const ending = text[0] === lineFeed ? 1 : text[0] === carriageReturn && text[1] === lineFeed ? 2 : 0;
    passLine(ending);
    return text.subarray(ending);
  };

  const passLine = (ending: number): void => {
    state = "after";
    found = { at: lineAt, bytes: line.length + ending };
  };

  const input = new Writable({
    decodeStrings: true,
    highWaterMark: 256 * 1024,
    write(chunk: Buffer, _encoding, done) {
      let ready = true;
      const stale = Math.max(0, Math.min(chunk.length, fresh - raw));
      if (stale > 0) {
        raw += stale;
        last.add(chunk.subarray(0, stale));
      }
      for (const part of sift(chunk.subarray(stale))) ready = forward(part) && ready;
      if (ready || output.destroyed || !output.writableNeedDrain) {
        done();
        return;
      }
      const proceed = (): void => {
        output.off("drain", proceed).off("close", proceed).off("error", proceed);
        done();
      };
      output.on("drain", proceed).on("close", proceed).on("error", proceed);
    },
    final(done) {
      if (state === "at line end") passLine(0);
      forward(held);
      done();
    },
  });
  // What comes after `close` is nobody's any more; without a listener it would end the process.
  input.on("error", () => {});
  let closing: Promise<void> | undefined;
  return {
    input,
    get seen() {
      return state !== "before";
    },
    get line() {
      return found;
    },
    tail: last.text,
    close: () => (closing ??= new Promise((resolve) => void input.once("close", () => resolve()).end())),
  };
}

/** What of a chunk that begins at `at` stands before and behind the line. */
function aroundLine(chunk: Buffer, at: number, line: ProofLine): Buffer[] {
  const start = Math.max(0, line.at - at);
  return [chunk.subarray(0, start), chunk.subarray(Math.max(start, line.at + line.bytes - at))];
}

/** How many bytes at the end of `text` may be the beginning of `line`. */
function prefixAtEnd(text: Buffer, line: Buffer): number {
  const first = line.subarray(0, 1);
  const start = Math.max(0, text.length - line.length + 1);
  for (let at = text.indexOf(first, start); at >= 0; at = text.indexOf(first, at + 1)) {
    if (line.subarray(0, text.length - at).equals(text.subarray(at))) return text.length - at;
  }
  return 0;
}

/** The last bytes of a stream. */
function createTail(bytes: number): { add(chunk: Buffer): void; text(): string } {
  let kept: Buffer = Buffer.alloc(0);
  return {
    add(chunk) {
      if (bytes === 0) return;
      const end = chunk.length > bytes ? chunk.subarray(chunk.length - bytes) : chunk;
      const both = Buffer.concat([kept, end]);
      kept = both.length > bytes ? Buffer.from(both.subarray(both.length - bytes)) : both;
    },
    text: () => kept.toString("utf8"),
  };
}
