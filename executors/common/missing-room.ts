import { statfs } from "node:fs/promises";
import type { KeepBudgets } from "../../src/executor/keeping.ts";
import { formatBytes } from "./oldest.ts";

/** What is missing of the room that `free` asks for on the disk of a directory; `null`: nothing, or nobody can tell. */
export async function missingRoom(
  directory: string | null,
  { free }: KeepBudgets,
): Promise<{ readonly bytes: number; readonly why: string } | null> {
  if (free === null || directory === null) return null;
  const found = await statfs(directory).catch(() => null);
  if (found === null) return null;
  const wanted = "share" in free ? found.blocks * found.bsize * free.share : free.bytes;
  const there = found.bavail * found.bsize;
  if (there >= wanted) return null;
  return { bytes: wanted - there, why: `${formatBytes(there)} are free of ${formatBytes(wanted)} that must be` };
}
