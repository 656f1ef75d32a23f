import { expandText } from "../decide/expand.ts";
import type { JobRun, Pipeline } from "./job-run.ts";
import type { SpecOptions } from "./spec.ts";

/** Which other jobs a job waits for, and whose artifacts and variables it gets. */

/** What a job waits for. */
export function before(
  { job }: JobRun,
  { runs, loaded: { plan } }: Pipeline,
): { readonly runs: readonly JobRun[]; readonly asNeeds: boolean } {
  if (job.needs !== null) {
    const needs = new Set(job.needs.map((need) => need.job));
    return { runs: runs.filter((other) => needs.has(other.job.name)), asNeeds: true };
  }
  const position = plan.stages.indexOf(job.stage);
  return { runs: runs.filter((other) => plan.stages.indexOf(other.job.stage) < position), asNeeds: false };
}

/** The jobs whose artifacts and reported variables a job gets, in the order of the pipeline. */
export function jobsBefore(
  { job }: JobRun,
  { runs, loaded: { plan } }: Pick<Pipeline, "runs"> & { readonly loaded: Pick<Pipeline["loaded"], "plan"> },
): JobRun[] {
  const { needs, dependencies } = job;
  const position = plan.stages.indexOf(job.stage);
  return runs.filter(({ job: other }) => {
    const reaches =
      needs === null
        ? plan.stages.indexOf(other.stage) < position
        : needs.some((need) => need.artifacts && need.job === other.name);
    return reaches && (dependencies === null || dependencies.includes(other.name));
  });
}

/** Jobs of the pipelines above whose artifacts a job asks for; `missing`: in words. */
export function jobsAbove(
  { job }: JobRun,
  pipeline: Pipeline,
  { around, variables }: Pick<SpecOptions, "around" | "variables">,
): { readonly found: readonly JobRun[]; readonly missing: readonly string[] } {
  const found: JobRun[] = [];
  const missing: string[] = [];
  const given = new Map(variables.map(({ key, value }) => [key, String(value ?? "")]));
  for (const need of job.upstream) {
    const id = expandText(need.pipeline, (name) => given.get(name) ?? around.predefined.get(name), "left");
    let above = pipeline.parent;
    while (above !== undefined && above.id !== id) above = above.parent;
    const run = above?.runs.find(({ job: other }) => other.name === need.job);
    if (run === undefined) missing.push(`artifacts of ${need.job} of the pipeline ${id}`);
    else found.push(run);
  }
  return { found, missing };
}
