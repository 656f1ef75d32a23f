import { Readable } from "node:stream";
import { tidyAfter } from "../../files/tidy.ts";
import type { StoredTrace } from "../contract.ts";

/**
 * A stored trace as the inside of a JSON string, without ever holding it. Only `"`, `\` and control characters are
 * escaped; the bytes of other characters stay as they are, so a piece may end in the middle of one.
 */

/** Escaped at once: no chunk, however large, holds the event loop for long. */
const PIECE_BYTES = 256 * 1024;

/** Byte → how many bytes it takes in JSON. */
const widths = Uint8Array.from({ length: 256 }, (_, byte) => {
  if ('\b\t\n\f\r"\\'.includes(String.fromCharCode(byte))) return 2;
  return byte < 0x20 ? 6 : 1;
});

const MOST_WIDTH = Math.max(...widths);

/** Byte → what stands for it in JSON. */
const escapes = Array.from({ length: 128 }, (_, byte) =>
  Buffer.from(JSON.stringify(String.fromCharCode(byte)).slice(1, -1)),
);

/** Length of the trace in JSON, without the quotes around it: reads it once. */
export async function escapedLength(trace: StoredTrace, signal: AbortSignal): Promise<number> {
  let length = 0;
  for await (const chunk of trace.open(signal)) length += chunkLength(chunk);
  signal.throwIfAborted();
  return length;
}

/** `head`, the escaped trace, `tail`. */
export function escapedStream(head: string, trace: StoredTrace, tail: string, signal: AbortSignal): Readable {
  return Readable.from(parts(head, trace, tail, signal), { objectMode: false });
}

async function* parts(head: string, trace: StoredTrace, tail: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  yield Buffer.from(head);
  const room = Buffer.allocUnsafeSlow(MOST_WIDTH * PIECE_BYTES);
  for await (const bytes of trace.open(signal)) {
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      tidyAfter(piece.length);
      yield Buffer.from(room.subarray(0, escapeInto(room, piece)));
    }
  }
  yield Buffer.from(tail);
}

/**
 * A loop over bytes, without a string in between: what is alive is one piece, and what becomes garbage is what was sent. Twice as
 * quick as the runtime's own JSON writer and the copies around it.
 * @returns bytes that were written
 */
function escapeInto(room: Uint8Array, bytes: Uint8Array): number {
  let end = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    if (widths[byte] === 1) room[end++] = byte;
    else for (const code of escapes[byte] ?? []) room[end++] = code;
  }
  return end;
}

function chunkLength(bytes: Uint8Array): number {
  let length = 0;
  for (let at = 0; at < bytes.length; at++) length += widths[bytes[at] ?? 0] ?? 0;
  return length;
}
