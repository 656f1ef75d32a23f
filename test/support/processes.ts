import { readFileSync } from "node:fs";

/** Whether a process runs. A process that has ended and waits for its parent to reap it does not. */
export function isAlive(pid: string | number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !/^\d+ \(.*\) Z /s.test(stat);
  } catch {
    return false;
  }
}
