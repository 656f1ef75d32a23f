import type { FileHandle } from "node:fs/promises";
import { Readable, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ScriptFailure, SystemFailure } from "../../errors.ts";
import { readAt } from "./directory.ts";

export const PIECE_BYTES = 256 * 1024;

/** Reads a part of a file a piece at a time. */
export async function* piecesOf(file: FileHandle, from: number, length: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < length; at += PIECE_BYTES)
    yield await readAt(file, from + at, Math.min(PIECE_BYTES, length - at));
}

/**
 * `source` decompressed, a piece at a time.
 * @param failed says what is wrong with bytes that `through` cannot read; failures of `source` are passed on
 */
export async function* decompressed(
  source: AsyncIterable<Uint8Array>,
  through: Transform,
  failed: (error: unknown) => ScriptFailure,
): AsyncGenerator<Uint8Array> {
  const running = pipeline(Readable.from(source, { objectMode: false }), through);
  running.catch(() => {}); // the reader of the stream gets the error
  try {
    for await (const piece of through) yield piece;
    await running;
  } catch (error) {
    if (error instanceof ScriptFailure || error instanceof SystemFailure) throw error;
    throw failed(error);
  } finally {
    through.destroy();
    await running.catch(() => {});
  }
}
