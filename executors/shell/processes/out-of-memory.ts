import { readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { formatBytes } from "../../common/kept/oldest.ts";

/** Processes that the kernel has killed on this machine for want of memory since it started; `null`: it does not tell. */
export function killedForMemory(): number | null {
  try {
    const [, count] = /^oom_kill (\d+)$/m.exec(readFileSync("/proc/vmstat", "latin1")) ?? [];
    return count === undefined ? null : Number(count);
  } catch {
    return null;
  }
}

/** What to say of a script that failed while the kernel killed for want of memory; `null`: nothing of that kind is known. */
export function outOfMemoryNote(before: number | null): string | null {
  const now = killedForMemory();
  if (before === null || now === null || now <= before) return null;
  const killed = now - before === 1 ? "a process" : `${now - before} processes`;
  return `Out of memory: the kernel killed ${killed} on this machine while the script ran; it has ${formatBytes(totalmem())}`;
}
