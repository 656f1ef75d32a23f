import { statfs } from "node:fs/promises";
import { SystemFailure } from "../errors.ts";

/** Bytes that ordinary accounts may still write to the disk of a directory. */
export async function freeBytesOf(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

/** @throws {SystemFailure} the disk has less than this free */
export async function mustHaveRoom(directory: string, minFreeBytes: number): Promise<void> {
  if (minFreeBytes <= 0) return;
  const free = await freeBytesOf(directory);
  if (free >= minFreeBytes) return;
  throw new SystemFailure(
    `the disk of ${directory} has ${free} bytes free, and ${minFreeBytes} must stay free (min_free_disk)`,
  );
}
