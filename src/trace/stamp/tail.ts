import type { StampState } from "../contract.ts";
import { HEADER_BYTES, headerOf, joins, type Stream, streamOf, timeOf } from "./header.ts";

const LF = 0x0a;
const LF_BYTES = Buffer.from("\n");

/** The end of a trace with times, for whoever goes on behind it. */
export interface StampedTail {
  /** What scripts printed in it, as it was without times. */
  readonly text: Buffer;
  /** Where in `text` a line break may have been: another line came between, which ends one that had none as well. */
  readonly breaks: readonly number[];
  readonly state: StampState;
  /** What its last line lacks to be one. */
  readonly torn: Buffer;
}

/** @param tail whole lines, but for the last one; `from`: where its writer was before it */
export function stampedTail(tail: Buffer, from: StampState): StampedTail {
  const parts: Buffer[] = [];
  const breaks: number[] = [];
  let size = 0;
  let { lastMicros } = from;
  let last: Stream | null = from.open;
  let torn: Buffer = Buffer.alloc(0);
  const add = (bytes: Buffer): void => {
    parts.push(bytes);
    size += bytes.length;
  };
  for (let at = 0; at < tail.length; ) {
    const header = tail.subarray(at, at + HEADER_BYTES);
    if (header.length < HEADER_BYTES) {
      // Nothing of the line itself was there yet: it becomes an empty one of the runner's.
      torn = Buffer.concat([headerOf(lastMicros, "runner", false).subarray(header.length), LF_BYTES]);
      if (last === "script") breaks.push(size);
      last = null;
      break;
    }
    const stream = streamOf(header);
    // The line before ended by itself, unless this one goes on with it.
    if (last === "script" && stream === "script" && !joins(header) && at > 0) add(LF_BYTES);
    if (last === "script" && stream !== "script") breaks.push(size);
    const end = tail.indexOf(LF, at + HEADER_BYTES);
    if (stream === "script") add(tail.subarray(at + HEADER_BYTES, end < 0 ? tail.length : end));
    lastMicros = Math.max(lastMicros, timeOf(header));
    last = stream;
    if (end < 0) torn = LF_BYTES;
    at = end < 0 ? tail.length : end + 1;
  }
  return { text: Buffer.concat(parts), breaks, state: { open: last === "script" ? "script" : null, lastMicros }, torn };
}
