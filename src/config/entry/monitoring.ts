import type { QueuingTable } from "../check/schema.ts";
import type { QueuingLimit } from "../config.ts";

/** GitLab Runner's: a minute has to fit all fields. */
const DAYS = "both";

/** @param problem told what is wrong with a key below `monitoring` */
export async function readQueuingLimits(
  tables: readonly QueuingTable[],
  problem: (path: readonly (string | number)[], text: string) => void,
): Promise<readonly QueuingLimit[]> {
  if (tables.length === 0) return [];
  const { parsePeriod, timezoneComplaint } = await import("../../periods.ts");
  return tables.map(({ periods, timezone, threshold, jobs_running_for_project: running }, index) => {
    const at = (...path: readonly (string | number)[]) => ["job_queuing_durations", index, ...path];
    const complaint = timezoneComplaint(timezone);
    if (complaint !== null) problem(at("timezone"), complaint);
    if (periods.length === 0) problem(at(), 'needs periods, such as periods = ["* * * * *"] for all the time');
    const texts = complaint === null ? periods : [];
    return {
      periods: texts.flatMap((text, number) => {
        const period = parsePeriod(text, { timezone, days: DAYS });
        if (typeof period !== "string") return [period];
        problem(at("periods", number), period);
        return [];
      }),
      thresholdSeconds: threshold / 1000,
      runningForProject:
        running === "" ? null : pattern(running, (text) => problem(at("jobs_running_for_project"), text)),
    };
  });
}

function pattern(text: string, problem: (text: string) => void): RegExp | null {
  try {
    return new RegExp(text);
  } catch {
    problem(`${JSON.stringify(text.slice(0, 60))} is no regular expression`);
    return null;
  }
}
