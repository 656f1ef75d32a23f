import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { JobUsage } from "../../../src/job/job.ts";

export { addUsage } from "../../../src/job/job.ts";

/** The text of a file of a control group (version 2), empty where it cannot be read. */
export type ReadGroup = (file: string) => string;

/** What all that ever was in a control group has used, as far as the kernel keeps account of it. */
export function groupUsage(read: ReadGroup): JobUsage {
  const cpu = Number(/^usage_usec (\d+)$/m.exec(read("cpu.stat"))?.[1] ?? Number.NaN);
  const peak = Number(/^(\d+)$/m.exec(read("memory.peak"))?.[1] ?? Number.NaN);
  const io = read("io.stat");
  const sum = (key: string): number =>
    [...io.matchAll(new RegExp(`\\b${key}=(\\d+)`, "g"))].reduce((total, [, bytes]) => total + Number(bytes), 0);
  return {
    ...(Number.isNaN(cpu) ? {} : { cpuSeconds: cpu / 1e6 }),
    ...(Number.isNaN(peak) ? {} : { peakMemoryBytes: peak }),
    ...(io === "" ? {} : { readBytes: sum("rbytes"), writtenBytes: sum("wbytes") }),
  };
}

/** What is in use in it now, without what the kernel would give back at once; `undefined`: it keeps no account of it. */
export function groupMemory(read: ReadGroup): number | undefined {
  const current = Number(/^(\d+)$/m.exec(read("memory.current"))?.[1] ?? Number.NaN);
  const idle = Number(/^inactive_file (\d+)$/m.exec(read("memory.stat"))?.[1] ?? 0);
  return Number.isNaN(current) ? undefined : Math.max(0, current - idle);
}

/** A group of this machine, by its directory. */
export function groupOf(dir: string): ReadGroup {
  return (file) => {
    try {
      return readFileSync(join(dir, file), "latin1");
    } catch {
      return "";
    }
  };
}
