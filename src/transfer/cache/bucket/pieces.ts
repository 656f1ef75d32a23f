import type { FileHandle } from "node:fs/promises";
import { Readable } from "node:stream";
import type { Body } from "../../../coordinator/exchange.ts";

/** Of one object; each has a buffer of `BUFFER_BYTES` and a connection. */
const AT_ONCE = 4;
const BUFFER_BYTES = 256 * 1024;

/** An archive on this disk that becomes an object. */
export interface OpenUpload {
  readonly file: FileHandle;
  readonly size: number;
  readonly object: string;
  readonly under: string;
  /** Of the request that makes the object. */
  readonly headers: Readonly<Record<string, string>>;
}

/** A part of a file or an object, from 1. */
export interface Piece {
  readonly number: number;
  readonly from: number;
  readonly bytes: number;
}

export function piecesOf(from: number, size: number, pieceBytes: number): Piece[] {
  const pieces: Piece[] = [];
  for (let at = from; at < size; at += pieceBytes) {
    pieces.push({ number: pieces.length + 1, from: at, bytes: Math.min(pieceBytes, size - at) });
  }
  return pieces;
}

/**
 * Moves all pieces, a few at once. After the first failure none is begun any more, and those under way are stopped.
 * @param move tells `moved` how much of its piece has gone
 */
export async function moveAll(
  pieces: readonly Piece[],
  { onBytes, signal }: { readonly onBytes: (bytes: number) => void; readonly signal: AbortSignal },
  move: (piece: Piece, moved: (bytes: number) => void, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stopping = new AbortController();
  const stop = (): void => stopping.abort(signal.reason);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop, { once: true });
  const done = new Map<number, number>();
  let failure: { readonly error: unknown } | undefined;
  const waiting = [...pieces];
  const work = async (): Promise<void> => {
    for (let piece = waiting.shift(); piece !== undefined && failure === undefined; piece = waiting.shift()) {
      const { number } = piece;
      const moved = (bytes: number): void => {
        done.set(number, bytes);
        onBytes([...done.values()].reduce((sum, each) => sum + each, 0));
      };
      await move(piece, moved, stopping.signal).catch((error: unknown) => {
        failure ??= { error };
        stopping.abort(error);
      });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  signal.removeEventListener("abort", stop);
  signal.throwIfAborted();
  if (failure !== undefined) throw failure.error;
}

/** A part of a file as the body of a request, which may be sent again. */
export function bodyOf(file: FileHandle, { from, bytes }: Piece, moved: (bytes: number) => void): Body {
  if (bytes === 0) return { bytes: new Uint8Array() };
  async function* buffers(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes; ) {
      const length = Math.min(BUFFER_BYTES, bytes - at);
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(length), 0, length, from + at);
      if (bytesRead === 0) throw new Error("the archive became shorter while it was sent");
      at += bytesRead;
      moved(at);
      yield buffer.subarray(0, bytesRead);
    }
  }
  return { length: bytes, open: () => Readable.from(buffers(), { objectMode: false }) };
}
