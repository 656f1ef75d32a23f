import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProcessTable } from "../processes/process-table.ts";
import { createProcfsTable } from "../processes/procfs.ts";
import { createPsTable } from "../processes/ps.ts";
import { aliveTable } from "../windows/processes.ts";
import { lockDirectories } from "./lock-directories.ts";
import { createDirectoryLocks, type DirectoryLocks } from "./locks.ts";

/** How this machine shows its processes, where that is not Windows. */
export function openProcessTable(): ProcessTable {
  return process.platform === "linux" ? createProcfsTable("/proc") : createPsTable();
}

/**
 * Claims that all runner processes of this account know of, and that end with the process that made them. What is claimed is a
 * path: no file need be there.
 * @param scratchDir last resort: the runner's own, which no other runner looks into
 */
export function openHostClaims(scratchDir: string): DirectoryLocks {
  if (process.platform === "win32") return createDirectoryLocks([join(tmpdir(), "alloy-runner-locks")], aliveTable);
  return createDirectoryLocks(lockDirectories(scratchDir, false), openProcessTable());
}
