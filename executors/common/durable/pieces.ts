import { closeSync, existsSync, fstatSync, readdirSync, readSync, rmSync } from "node:fs";
import { join } from "node:path";
import { openPlain, pieceName, pieceOffset } from "./files.ts";

const CHUNK_BYTES = 256 * 1024;

/** The pieces of one script's output, read one after the other. */
export interface Pieces {
  /** Raw bytes that were read or are lost. */
  readonly at: number;
  /** The next bytes that are there; `null`: none are, now. */
  read(): Buffer | null;
  /** Pieces that lie wholly below `offset` are removed. @returns whether some that were read are still there */
  forget(offset: number): boolean;
  /**
   * Where the next bytes are not there, but later ones, or the end: goes on behind the gap.
   * @param end where the output ends, as far as that is known
   * @returns the size of the gap; `null`: nothing is known to come later
   */
  skip(end: number | null): number | null;
  close(): void;
}

/** How much waits to be read, and since when nothing was added to it (`Date.now()`); `null`: nothing does. */
export function waitingIn(directory: string): { readonly bytes: number; readonly since: number } | null {
  const all = offsetsIn(directory);
  const [first, last] = [all[0], all.at(-1)];
  const fd = last === undefined ? null : openPlain(join(directory, pieceName(last)));
  if (first === undefined || last === undefined || fd === null) return null;
  const { size, mtimeMs } = fstatSync(fd);
  closeSync(fd);
  return { bytes: last + size - first, since: mtimeMs };
}

function offsetsIn(directory: string): number[] {
  try {
    return readdirSync(directory)
      .flatMap((name) => pieceOffset(name) ?? [])
      .sort((a, b) => a - b);
  } catch {
    return [];
  }
}

export interface PiecesOptions {
  readonly directory: string;
  readonly from: number;
  /** The next piece begins at this offset, all before it was read. */
  onPiece(at: number): void;
}

export function openPieces({ directory, from, onPiece }: PiecesOptions): Pieces {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  const begun: number[] = [];
  let at = from;
  let fd: number | null = null;
  let start = from;

  const offsets = (): number[] => offsetsIn(directory);
  const find = (offset: number): number | null => {
    const path = join(directory, pieceName(offset));
    // Mostly there is none yet: to ask costs a tenth of an opening that fails.
    return existsSync(path) ? openPlain(path) : null;
  };
  const close = (): void => {
    if (fd !== null) closeSync(fd);
    fd = null;
  };
  const enter = (opened: number, offset: number): void => {
    close();
    fd = opened;
    start = offset;
    if (begun.at(-1) !== offset) begun.push(offset);
    onPiece(offset);
  };
  const some = (): Buffer | null => {
    if (fd === null) return null;
    const bytes = readSync(fd, buffer, 0, CHUNK_BYTES, at - start);
    at += bytes;
    return bytes === 0 ? null : Buffer.from(buffer.subarray(0, bytes));
  };
  const begins = (offset: number): boolean => {
    if (fd !== null && offset === start) return false;
    const opened = find(offset);
    if (opened !== null) closeSync(opened);
    return opened !== null;
  };
  /** Where the reading begins. */
  const enterFirst = (): void => {
    const exact = find(at);
    const offset = exact === null && at > 0 ? offsets().findLast((one) => one < at) : at;
    const opened = exact ?? (offset === undefined || offset === at ? null : find(offset));
    if (opened === null || offset === undefined) return;
    // Whoever read before has left them.
    begun.push(...(at === 0 ? [] : offsets().filter((one) => one < offset)));
    enter(opened, offset);
  };

  const enterAt = (): void => {
    const opened = find(at);
    if (opened !== null) enter(opened, at);
  };

  return {
    get at() {
      return at;
    },
    read() {
      if (fd === null && begun.length === 0) enterFirst();
      else if (fd === null) enterAt();
      const bytes = some();
      if (bytes !== null || at === start) return bytes;
      const next = fd === null ? null : find(at);
      if (next === null) return null;
      // What the piece got before the next one was made is there by now.
      const last = some();
      if (last !== null) {
        closeSync(next);
        return last;
      }
      enter(next, at);
      return some();
    },
    forget(offset) {
      for (let next = begun[1]; next !== undefined && next <= offset; next = begun[1]) {
        const [old = 0] = begun.splice(0, 1);
        rmSync(join(directory, pieceName(old)), { force: true });
      }
      return begun.length > 1;
    },
    skip(end) {
      const next = offsets().find((offset) => offset > at) ?? end;
      if (next === null || next <= at) return null;
      // What has come since is no gap.
      if (begins(at) || (fd !== null && readSync(fd, buffer, 0, 1, at - start) > 0)) return 0;
      const lost = next - at;
      close();
      at = next;
      start = next;
      return lost;
    },
    close,
  };
}
