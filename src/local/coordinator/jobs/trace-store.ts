import { crc32 } from "node:zlib";

/** Bytes of a trace, or only what can be said about them. */
export interface TraceStore {
  readonly size: number;
  /** IEEE, over all bytes. */
  readonly crc32: number;
  append(bytes: Buffer): void;
  clear(): void;
  /** All bytes in one piece; empty where they are not kept. */
  bytes(): Buffer;
  /** The bytes from `offset` on; cheap near the end. */
  from(offset: number): Buffer;
}

/** @param keep `false`: memory does not grow, `bytes()` stays empty */
export function createTraceStore(keep: boolean): TraceStore {
  let pieces: Buffer[] = [];
  let size = 0;
  let checksum = 0;
  return {
    get size() {
      return size;
    },
    get crc32() {
      return checksum;
    },
    append(bytes) {
      if (bytes.length === 0) return;
      size += bytes.length;
      checksum = crc32(bytes, checksum);
      if (keep) pieces.push(bytes);
    },
    clear() {
      pieces = [];
      size = 0;
      checksum = 0;
    },
    bytes() {
      if (pieces.length > 1) pieces = [Buffer.concat(pieces)];
      return pieces[0] ?? Buffer.alloc(0);
    },
    from(offset) {
      let index = pieces.length;
      let start = size;
      while (index > 0 && start > offset) start -= pieces[--index]?.length ?? 0;
      return Buffer.concat(pieces.slice(index)).subarray(Math.max(0, offset - start));
    },
  };
}

/** A marker in a trace: its text from the marker's first byte to the end of the line, and when its line was complete. */
export interface TraceMarker {
  readonly text: string;
  readonly at: number;
}

/** A marker's line is given up beyond this. */
const LONGEST_MARKER_BYTES = 1024;

/** Finds markers in bytes that come in pieces. Native search only: a trace without markers costs next to nothing. */
export function createMarkerSearch(
  marker: string,
  found: (marker: TraceMarker) => void,
): (bytes: Buffer, at: number) => void {
  const wanted = Buffer.from(marker);
  let carry: Buffer = Buffer.alloc(0);
  return (bytes, at) => {
    const text = carry.length === 0 ? bytes : Buffer.concat([carry, bytes]);
    let from = 0;
    for (;;) {
      const start = text.indexOf(wanted, from);
      if (start < 0) {
        carry = Buffer.from(text.subarray(Math.max(from, text.length - wanted.length + 1)));
        return;
      }
      const end = text.indexOf(10, start);
      if (end < 0 && text.length - start < LONGEST_MARKER_BYTES) {
        carry = Buffer.from(text.subarray(start));
        return;
      }
      from = end < 0 ? start + wanted.length : end + 1;
      if (end >= 0) found({ text: text.toString("utf8", start, end).trimEnd(), at });
    }
  };
}
