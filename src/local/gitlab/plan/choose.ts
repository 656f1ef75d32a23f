import { globMatcher } from "../decide/glob.ts";
import type { Plan, PlannedJob } from "./plan.ts";

/** Whether what a person typed means a job: its name, that of all its instances, or a pattern with `*`. */
export function means(typed: string, name: string, group: string): boolean {
  if (typed === name || typed === group) return true;
  return typed.includes("*") && (globMatcher(flat(typed))(flat(name)) || globMatcher(flat(typed))(flat(group)));
}

/** Names of jobs are not paths, and their brackets are not sets of characters. */
function flat(text: string): string {
  return text.replaceAll("/", "\u0001").replace(/[[\]{}?]/g, "\u0002");
}

export interface Choice {
  readonly names: readonly string[];
  readonly stages: readonly string[];
  readonly withNeeds: boolean;
}

/** Names of the jobs that run; `unknown`: nothing is called so. */
export function chooseJobs(
  plan: Plan,
  { names, stages, withNeeds }: Choice,
): { readonly chosen: ReadonlySet<string> } | { readonly unknown: string } {
  const all = new Set(plan.jobs.map(({ name }) => name));
  if (names.length === 0 && stages.length === 0) return { chosen: all };
  const chosen = new Set<string>();
  for (const typed of names) {
    const found = plan.jobs.filter((job) => means(typed, job.name, job.group));
    if (found.length === 0) return { unknown: typed };
    for (const { name } of found) chosen.add(name);
  }
  for (const stage of stages) {
    const found = plan.jobs.filter((job) => job.stage === stage);
    if (found.length === 0) return { unknown: stage };
    for (const { name } of found) chosen.add(name);
  }
  if (!withNeeds) return { chosen };
  const add = (job: PlannedJob): void => {
    for (const needed of neededBy(job, plan)) {
      if (chosen.has(needed.name)) continue;
      chosen.add(needed.name);
      add(needed);
    }
  };
  for (const job of plan.jobs) if (chosen.has(job.name)) add(job);
  return { chosen };
}

/** Jobs that a job waits for by name, or else those whose artifacts it gets. */
function neededBy(job: PlannedJob, plan: Plan): PlannedJob[] {
  const position = plan.stages.indexOf(job.stage);
  return plan.jobs.filter((other) => {
    if (job.needs !== null) return job.needs.some((need) => need.job === other.name);
    if (plan.stages.indexOf(other.stage) >= position || other.artifacts === null) return false;
    return job.dependencies?.includes(other.name) ?? true;
  });
}
