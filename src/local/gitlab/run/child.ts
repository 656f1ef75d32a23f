import type { VariableSpec } from "../../coordinator/jobs/job.ts";
import type { Found } from "../compose/include-sources.ts";
import type { PipelineCase } from "../decide/case.ts";
import type { LoadedPlan } from "../load.ts";
import type { PlannedJob, PlannedTrigger } from "../plan/plan.ts";
import { CiConfigError } from "../read/findings.ts";
import { at } from "../read/node.ts";
import { ofTheFile, predefinedOf } from "./spec.ts";

/** Child pipelines below one another that GitLab makes. */
export const MOST_DEPTH = 2;

export interface Handing {
  readonly job: PlannedJob;
  readonly trigger: PlannedTrigger;
  /** The case of the parent pipeline. */
  readonly around: PipelineCase;
  readonly parentId: string;
  /** What the parent's own parent has handed down. */
  readonly given: readonly VariableSpec[];
  /** Variables of dotenv reports that the job gets. */
  readonly reported: ReadonlyMap<string, string>;
}

/** The variables that a child pipeline is given: the file's with one another put in, and further ones where `forward` says so. */
export function handedDown({ job, trigger, around, parentId, given, reported }: Handing): VariableSpec[] {
  const own = predefinedOf(job, around, job.timeoutSeconds, { pipelineId: parentId, pipelineName: null });
  const predefined = new Map(own.map(({ key, value }) => [key, String(value)]));
  const known = { ...around, predefined: predefined.set("CI_PIPELINE_ID", parentId) };
  const all = [
    ...(trigger.forwardYaml ? ofTheFile(job, known) : []),
    ...(trigger.forwardPipeline ? [...reported].map(([key, value]) => ({ key, value })) : []),
    ...(trigger.forwardPipeline ? given : []),
  ];
  return [...new Map(all.map((variable) => [variable.key, variable])).values()];
}

/**
 * The pipeline that a job starts.
 * @param artifact reads out of what a job of the parent has uploaded
 * @returns or why GitLab would make none: a line for each finding
 */
export async function loadChild(
  loaded: LoadedPlan,
  trigger: PlannedTrigger,
  parentId: string,
  given: readonly VariableSpec[],
  artifact: (job: string, path: string) => Promise<Found<string>>,
): Promise<Found<LoadedPlan>> {
  const values = new Map(given.map(({ key, value }) => [key, String(value ?? "")]));
  try {
    const child = await loaded.child({ trigger, parentId, given: values, artifact });
    return child.plan.refusal === null ? { found: child } : { problem: child.plan.refusal };
  } catch (error) {
    if (!(error instanceof CiConfigError)) throw error;
    return { problem: error.message };
  }
}

/** The first job whose artifacts the pipeline's own files are among; `undefined`: all files are there beforehand. */
export function madeBy({ include }: PlannedTrigger): string | undefined {
  const items = include?.kind === "list" ? include.items : include === undefined ? [] : [include];
  for (const item of items) {
    const job = at(item, "artifact") === undefined ? undefined : at(item, "job");
    if (job?.kind === "scalar") return job.text;
  }
  return undefined;
}
