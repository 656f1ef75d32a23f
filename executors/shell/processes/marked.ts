import { open } from "node:fs/promises";

/** More than the kernel gives any program to start with (a process may say of itself that it has more). */
const MOST_BYTES = 6 * 1024 * 1024;
const PIECE_BYTES = 64 * 1024;

/**
 * Tells, of one process at a time, whether it was started with `entry` (`NAME=value`) in its environment, as far as we may look.
 * Never in the event loop's own time: the kernel lets a process keep its readers waiting while it changes its memory.
 * @returns a function of `/proc/<pid>/environ`
 */
export function entrySearch(entry: string): (path: string) => Promise<boolean> {
  // Each entry ends with a NUL; the one that is put before the first makes it no exception.
  const wanted = Buffer.from(`\0${entry}\0`);
  const buffer = Buffer.allocUnsafeSlow(wanted.length + PIECE_BYTES);
  return async (path) => await isIn(path, wanted, buffer);
}

async function isIn(path: string, wanted: Buffer, buffer: Buffer): Promise<boolean> {
  buffer[0] = 0;
  let kept = 1;
  try {
    await using file = await open(path);
    for (let at = 0; at < MOST_BYTES; ) {
      const { bytesRead } = await file.read(buffer, kept, PIECE_BYTES, at);
      if (bytesRead === 0) return false;
      at += bytesRead;
      const end = kept + bytesRead;
      if (buffer.subarray(0, end).includes(wanted)) return true;
      // An entry may lie across two pieces.
      kept = Math.min(end, wanted.length - 1);
      buffer.copy(buffer, 0, end - kept, end);
    }
  } catch {
    // It has ended, or is closed to us.
  }
  return false;
}
