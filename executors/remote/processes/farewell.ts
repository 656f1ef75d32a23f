import type { JobUsage } from "../../../src/job/job.ts";
import { formatBytes } from "../../common/kept/oldest.ts";

/** What the attendant of a script says on stderr once that has ended. Who reads it must not believe much: scripts can reach it. */

/** Whether the script left nothing. It is the last line: `alloy-runner left NUMBERS`. */
export function leftAlone(stderr: string): boolean {
  return /(?:^|\n)alloy-runner left +\n*$/.test(stderr);
}

/**
 * Processor time of the script and of what it waited for: after `alloy-runner used` the two lines of `times`, of which the second
 * is about what the attendant has started.
 */
export function usedBy(stderr: string): JobUsage {
  const TIME = "(\\d{1,6})m(\\d{1,2}(?:[.,]\\d{1,9})?)s";
  const found = new RegExp(`^alloy-runner used\\n.*\\n${TIME} +${TIME}`, "m").exec(stderr);
  if (found === null) return {};
  const [, userMinutes, user = "", systemMinutes, system = ""] = found;
  const seconds = [user, system].map((text) => Number(text.replace(",", ".")));
  return { cpuSeconds: (Number(userMinutes) + Number(systemMinutes)) * 60 + (seconds[0] ?? 0) + (seconds[1] ?? 0) };
}

/**
 * What to say of a script that failed while the kernel of its machine killed for want of memory: `alloy-runner killed` with how
 * many it had killed before and after, and KiB of memory. `null`: nothing of that kind is known.
 */
export function outOfMemoryNote(stderr: string, machine: string): string | null {
  const found = /^alloy-runner killed (\d{1,12}) (\d{1,12}) (\d{1,12})$/m.exec(stderr);
  if (found === null) return null;
  const [before = 0, after = 0, kib = 0] = found.slice(1).map(Number);
  if (after <= before) return null;
  const what = after - before === 1 ? "a process" : `${after - before} processes`;
  return `Out of memory: the kernel killed ${what} on ${machine} while the script ran; it has ${formatBytes(kib * 1024)}`;
}
