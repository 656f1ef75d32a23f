import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { HEADER_BYTES } from "./header.ts";

const LF = 0x0a;

/**
 * Cuts the header off that the last process was killed in the middle of writing: nobody was sent it, as pieces of a trace end with
 * lines, and what it was to stand before comes once more. A trace that cannot be opened is left to whoever opens it next.
 */
export async function cutTornHeader(path: string): Promise<void> {
  const file = await open(path, constants.O_RDWR | (constants.O_NOFOLLOW ?? 0)).catch(() => null);
  if (file === null) return;
  try {
    const { size } = await file.stat();
    const end = Buffer.alloc(Math.min(size, HEADER_BYTES));
    await file.read(end, 0, end.length, size - end.length);
    const torn = end.length - 1 - end.lastIndexOf(LF);
    if (torn > 0 && torn < HEADER_BYTES) await file.truncate(size - torn);
  } finally {
    await file.close();
  }
}
