import { readdirSync, readFileSync } from "node:fs";

/** Memory and open descriptors of a process; MB are MiB. `peakMb` is the most that it ever had resident. */
export function footprint(pid: number): { residentMb: number; peakMb: number; descriptors: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const read = (key: string): number =>
    Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? Number.NaN) / 1024;
  return { residentMb: read("VmRSS"), peakMb: read("VmHWM"), descriptors: readdirSync(`/proc/${pid}/fd`).length };
}
