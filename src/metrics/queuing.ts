import type { QueuingLimit } from "../config/config.ts";
import type { Job } from "../job/job.ts";

/** Whether a job has waited at its coordinator for longer than is acceptable now: the last limit whose period it is decides. */
export function hasWaitedTooLong(
  { queuedSeconds, projectJobsRunning = "" }: Pick<Job, "queuedSeconds" | "projectJobsRunning">,
  limits: readonly QueuingLimit[],
  now: Date,
): boolean {
  const limit = limits.findLast(({ periods }) => periods.some((period) => period(now)));
  if (limit === undefined || limit.thresholdSeconds <= 0 || queuedSeconds === undefined) return false;
  return queuedSeconds > limit.thresholdSeconds && (limit.runningForProject?.test(projectJobsRunning) ?? true);
}
