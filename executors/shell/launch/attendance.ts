import { existsSync, readlinkSync } from "node:fs";
import type { AttendantTools } from "../../common/durable/attend.ts";
import { findProgram } from "./launch.ts";

/** The kernel's own number of the first namespace of processes (`PROC_PID_INIT_INO`). */
const FIRST_NAMESPACE = "pid:[4026531836]";

/**
 * Processes live here as long as the machine or the system in its container, and not as long as the runner: a container whose
 * first program is the runner, or waits for it, takes all with it.
 */
export function outlivesRunner(ownSystem = "/run/systemd/system"): boolean {
  try {
    return readlinkSync("/proc/self/ns/pid") === FIRST_NAMESPACE || existsSync(ownSystem);
  } catch {
    return false;
  }
}

const NEEDED = ["dd", "setsid", "sleep", "wc"] as const;

/**
 * What an attendant starts, from where the runner itself looks for programs: a job's account may have its own first.
 * @returns what is missing, where it cannot be
 */
export function findAttendance(
  path: string,
): { readonly tools: AttendantTools } | { readonly missing: readonly string[] } {
  const [dd, setsid, sleep, wc] = NEEDED.map((name) => findProgram(name, path));
  if (dd === undefined || setsid === undefined || sleep === undefined || wc === undefined) {
    return { missing: NEEDED.filter((name) => findProgram(name, path) === undefined) };
  }
  return { tools: { sh: "/bin/sh", dd, setsid, sleep, wc } };
}
