import { nearest } from "../../config/check/keys.ts";
import { CommandError } from "../../errors.ts";
import type { CiFile, CiJob } from "./ci-file.ts";
import { runsOn } from "./ci-refs.ts";

/** The job of that name. @throws {CommandError} there is none; the nearest one is named */
export function findJob(name: string, file: CiFile): CiJob {
  const names = file.jobs.map((job) => job.name);
  const found = file.jobs.find((job) => job.name === name);
  if (found !== undefined) return found;
  const meant = nearest(name, names);
  const hint = meant === undefined ? `its jobs are ${names.join(", ")}` : `did you mean "${meant}"?`;
  throw new CommandError(`There is no job "${name}" in ${file.file}; ${hint}`);
}

/** Jobs whose artifacts `job` gets in a pipeline for `ref` (a full one): those it names, or all of earlier stages. */
export function needsOf(job: CiJob, file: CiFile, ref: string): CiJob[] {
  const position = file.stages.indexOf(job.stage);
  return file.jobs.filter((other) => {
    if (other.artifacts === undefined || file.stages.indexOf(other.stage) >= position) return false;
    if (job.dependencies !== null) return job.dependencies.includes(other.name);
    return (other.when === "on_success" || other.when === "always") && runsOn(other, ref);
  });
}

/** `names` and all that they need, and what that needs, in the order of the file. */
export function withNeeds(names: readonly string[], file: CiFile, ref: string): string[] {
  const wanted = new Set<CiJob>();
  const add = (job: CiJob): void => {
    if (wanted.has(job)) return;
    wanted.add(job);
    for (const needed of needsOf(job, file, ref)) add(needed);
  };
  for (const name of names) add(findJob(name, file));
  return file.jobs.filter((job) => wanted.has(job)).map((job) => job.name);
}
