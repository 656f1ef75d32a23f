import type { Dialect } from "../../../job/job.ts";
import type { LocalRunner } from "../runners.ts";
import type { JobRecord } from "./job-record.ts";

/** The job that `runner` would get now: the oldest of those it may take. */
export function nextJob(jobs: readonly JobRecord[], runner: LocalRunner, dialect: Dialect): JobRecord | undefined {
  const waiting = jobs.filter((job) => job.status === "pending" && job.runner === undefined);
  if (dialect === "gitlab") return waiting.find((job) => mayTake(job, runner));
  const own = waiting.filter((job) => isFor(job, runner));
  // On AlloyCI a project's runners take all of its jobs, whatever the tags. Others get tagged jobs before untagged ones.
  if (runner.projectId !== null) return own[0];
  const tagged = own.find((job) => tagsOf(job).length > 0 && fits(job, runner));
  if (tagged !== undefined) return tagged;
  const takesUntagged = runner.tags === null || runner.tags.length === 0 || runner.runUntagged;
  return takesUntagged ? own.find((job) => tagsOf(job).length === 0) : undefined;
}

/** Whether GitLab gives `job` to `runner`. */
export function mayTake(job: JobRecord, runner: LocalRunner): boolean {
  if (!isFor(job, runner) || !fits(job, runner)) return false;
  return tagsOf(job).length > 0 || runner.runUntagged;
}

function isFor(job: JobRecord, runner: LocalRunner): boolean {
  if (job.spec.runnerToken !== undefined && job.spec.runnerToken !== runner.token) return false;
  return runner.projectId === null || runner.projectId === projectIdOf(job);
}

function fits(job: JobRecord, runner: LocalRunner): boolean {
  return tagsOf(job).every((tag) => runner.tags?.includes(tag) === true);
}

function tagsOf(job: JobRecord): readonly string[] {
  return job.spec.tags ?? [];
}

function projectIdOf(job: JobRecord): number {
  return job.spec.projectId ?? 1;
}
