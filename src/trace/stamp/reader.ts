import { beginsWithHeader, HEADER_BYTES, joins } from "./header.ts";

const LF = 0x0a;
const NEWLINE = Buffer.from("\n");
const NOTHING = Buffer.alloc(0);
/** A line may be as long as what a job writes at once; of one that is longer its beginning is not looked for. */
const LOOK_BACK_BYTES = 128 * 1024;

/** A trace with times → the trace as a person reads it. */
export interface StampReader {
  /** What these bytes, which follow those before, show. The break behind a line comes with the next line. */
  read(bytes: Buffer): Buffer;
  /** All there is has been read: the break that is still due, unless the line goes on. */
  settle(lineOpen: boolean): Buffer;
  /** Where reading may begin again so that nothing is missing and nothing comes twice. */
  readonly position: number;
}

/** @param inLine `from` is not where a line begins */
export function createStampReader({ from, inLine }: { from: number; inLine: boolean }): StampReader {
  let consumed = from;
  let inText = inLine;
  let header = NOTHING;
  /** A break was read and not shown yet. */
  let due = false;
  const showDue = (): Buffer => {
    const shown = due ? NEWLINE : NOTHING;
    due = false;
    return shown;
  };
  return {
    read(bytes) {
      consumed += bytes.length;
      const parts: Buffer[] = [];
      let rest = Buffer.concat([header, bytes]);
      header = NOTHING;
      while (rest.length > 0) {
        if (!inText) {
          if (rest.length < HEADER_BYTES && !rest.includes(LF)) {
            header = rest;
            break;
          }
          inText = true;
          if (!beginsWithHeader(rest)) parts.push(showDue());
          else {
            if (joins(rest)) due = false;
            parts.push(showDue());
            rest = rest.subarray(HEADER_BYTES);
          }
        }
        const end = rest.indexOf(LF);
        parts.push(end < 0 ? rest : rest.subarray(0, end));
        if (end < 0) break;
        due = true;
        inText = false;
        rest = rest.subarray(end + 1);
      }
      return Buffer.concat(parts);
    },
    settle: (lineOpen) => (lineOpen || header.length > 0 ? NOTHING : showDue()),
    get position() {
      return consumed - header.length - (due ? 1 : 0);
    },
  };
}

/** What can be read of a trace. */
interface Readable {
  readonly size: number;
  read(from: number, maxBytes: number): Promise<Buffer>;
}

/** Begins to read at `from` or, where that is within a header, at it; `null`: this trace has no times. */
export async function openStampReader(trace: Readable, from: number): Promise<StampReader | null> {
  if (!beginsWithHeader(await trace.read(0, HEADER_BYTES))) return null;
  const least = Math.max(0, from - LOOK_BACK_BYTES);
  const before = await trace.read(least, from - least);
  const lineStart = least + before.lastIndexOf(LF) + 1;
  if (lineStart === 0 || lineStart > least) {
    if (from - lineStart < HEADER_BYTES) return createStampReader({ from: lineStart, inLine: false });
  }
  return createStampReader({ from, inLine: true });
}
