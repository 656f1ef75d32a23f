import type { RunnerConfig } from "../../config/config.ts";
import type { Job } from "../job.ts";

/** Go's booleans. */
function truth(text: string | undefined): boolean | undefined {
  if (/^\s*(?:1|t|true)\s*$/i.test(text ?? "")) return true;
  return /^\s*(?:0|f|false)\s*$/i.test(text ?? "") ? false : undefined;
}

/**
 * A switch of GitLab Runner's for one job, before its variables are resolved: the entry's `feature_flags` win, then the job's
 * variables, then the entry's `environment`. What is no boolean says nothing.
 */
export function featureFlag(
  name: `FF_${string}`,
  fallback: boolean,
  entry: Pick<RunnerConfig, "featureFlags" | "environment">,
  job: Pick<Job, "variables">,
): boolean {
  const last = (all: readonly { readonly key: string; readonly value: string }[]): boolean | undefined =>
    truth(all.findLast(({ key }) => key === name)?.value);
  return entry.featureFlags[name] ?? last(job.variables) ?? last(entry.environment) ?? fallback;
}
