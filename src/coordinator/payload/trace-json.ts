import { Readable } from "node:stream";
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

/** Length of the trace in JSON, without the quotes around it: reads it once. */
export async function escapedLength(trace: StoredTrace, signal: AbortSignal): Promise<number> {
  let length = 0;
  for await (const chunk of trace.open(signal)) length += chunkLength(bytesOf(chunk));
  signal.throwIfAborted();
  return length;
}

/** `head`, the escaped trace, `tail`. */
export function escapedStream(head: string, trace: StoredTrace, tail: string, signal: AbortSignal): Readable {
  return Readable.from(parts(head, trace, tail, signal), { objectMode: false });
}

async function* parts(head: string, trace: StoredTrace, tail: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  yield Buffer.from(head);
  for await (const chunk of trace.open(signal)) {
    const bytes = bytesOf(chunk);
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield escapeBytes(bytes.subarray(at, at + PIECE_BYTES));
  }
  yield Buffer.from(tail);
}

/**
 * Read as Latin-1 every byte is one character, so the runtime's own JSON writer does the escaping, whatever the bytes
 * mean: several hundred MB/s, where a loop over the escapes would be slow on coloured output.
 */
function escapeBytes(bytes: Buffer): Buffer {
  return Buffer.from(JSON.stringify(bytes.toString("latin1")), "latin1").subarray(1, -1);
}

function chunkLength(bytes: Buffer): number {
  let length = 0;
  for (let at = 0; at < bytes.length; at++) length += widths[bytes[at] ?? 0] ?? 0;
  return length;
}

function bytesOf(chunk: unknown): Buffer {
  if (Buffer.isBuffer(chunk)) return chunk;
  if (chunk instanceof Uint8Array) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  throw new TypeError("a stored trace must be a stream of bytes");
}
