import { statfs } from "node:fs/promises";
import type { KeepBudgets } from "../../../src/executor/keeping.ts";
import { formatBytes } from "./oldest.ts";

/** What is missing of the room that `free` asks for on the disk of a directory; `null`: nothing, or nobody can tell. */
export async function missingRoom(directory: string | null, budgets: KeepBudgets): Promise<MissingRoom | null> {
  if (budgets.free === null || directory === null) return null;
  const found = await statfs(directory).catch(() => null);
  if (found === null) return null;
  return roomMissing({ bytes: found.blocks * found.bsize, free: found.bavail * found.bsize }, budgets);
}

export interface MissingRoom {
  readonly bytes: number;
  readonly why: string;
}

/** The same of a disk whose size and free bytes are known. */
export function roomMissing(
  disk: { readonly bytes: number; readonly free: number },
  { free }: KeepBudgets,
): MissingRoom | null {
  if (free === null) return null;
  const wanted = "share" in free ? disk.bytes * free.share : free.bytes;
  if (disk.free >= wanted) return null;
  return {
    bytes: wanted - disk.free,
    why: `${formatBytes(disk.free)} are free of ${formatBytes(wanted)} that must be`,
  };
}
