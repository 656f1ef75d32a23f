import type { AttendantTools } from "../../common/durable/attend.ts";
import { findProgram } from "./launch.ts";

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
