import type { LocalJob, VariableSpec } from "../../coordinator/jobs/job.ts";
import type { PipelineJob } from "../../pipeline/pipeline-job.ts";
import type { LoadedPlan } from "../load.ts";
import type { PlannedJob, Retry } from "../plan/plan.ts";
import type { JobState, Standing } from "./schedule.ts";

/** A pipeline that runs: the project's, or a child of it. */
export interface Pipeline {
  readonly loaded: LoadedPlan;
  /** `CI_PIPELINE_ID`. */
  readonly id: string;
  /** Stands before the names of its jobs: `deploy / `; empty for the project's own. */
  readonly label: string;
  readonly parent: Pipeline | undefined;
  /** What its parent has handed down. */
  readonly given: readonly VariableSpec[];
  readonly runs: readonly JobRun[];
  /** Resource groups that the jobs hold which wait for this pipeline. */
  readonly heldAbove: ReadonlySet<string>;
}

/** One job of a plan while the pipeline runs. */
export interface JobRun {
  readonly job: PlannedJob;
  /** The pipeline that it has started. */
  child: Pipeline | undefined;
  state: JobState;
  local: LocalJob | undefined;
  result: PipelineJob | undefined;
  /** The variables of its dotenv reports. */
  reported: ReadonlyMap<string, string>;
  startedAt: number | undefined;
  endedAt: number | undefined;
}

export function notBegun(job: PlannedJob): JobRun {
  return {
    job,
    child: undefined,
    state: "created",
    local: undefined,
    result: undefined,
    reported: new Map(),
    startedAt: undefined,
    endedAt: undefined,
  };
}

/** What those after a job see of it. */
export function standingOf(run: JobRun): Standing {
  return { state: run.state, forgiven: run.state === "manual" ? !run.job.blocks : isForgiven(run) };
}

/** Whether its failure does not count. */
export function isForgiven({ job, state, result }: JobRun): boolean {
  if (typeof job.allowFailure === "boolean") return job.allowFailure;
  return state === "failed" && result?.exitCode !== undefined && job.allowFailure.includes(result.exitCode);
}

/** Either a reason or an exit code is enough. */
export function isRetried(retry: Retry | null, tries: number, { failureReason, exitCode }: PipelineJob): boolean {
  if (retry === null || tries >= retry.max) return false;
  if (exitCode !== undefined && retry.exitCodes.includes(exitCode)) return true;
  return retry.when.includes("always") || retry.when.includes(failureReason ?? "unknown_failure");
}

/** The rows of a pipeline's jobs in the table at the end; those of a child come after the job that started it. */
export function rowsOf({ runs, label }: Pipeline): PipelineJob[] {
  return runs.flatMap((run) => {
    const row = rowOf(run);
    return [{ ...row, name: `${label}${row.name}` }, ...(run.child === undefined ? [] : rowsOf(run.child))];
  });
}

function rowOf({ job, state, result }: JobRun): PipelineJob {
  if (result !== undefined) return result;
  // Jobs after it see it as successful, but the table must not show it as a job that has run.
  const passedOver = job.trigger !== null && state === "success";
  const ended = state === "created" || state === "scheduled" || state === "running" ? "skipped" : state;
  return {
    name: job.name,
    stage: job.stage,
    state: passedOver ? "not started here" : ended,
    allowFailure: job.allowFailure === true,
    durationMs: undefined,
    exitCode: undefined,
    failureReason: undefined,
  };
}

/** @param refused its reports are none that GitLab would take */
export function resultOf(job: PlannedJob, local: LocalJob, refused: boolean): PipelineJob {
  const { status, pickedUpAt, finishedAt, exitCode, failureReason } = local;
  const ended = status === "success" || status === "failed" ? status : "canceled";
  const { allowFailure } = job;
  return {
    name: job.name,
    stage: job.stage,
    state: ended === "success" && refused ? "failed" : ended,
    allowFailure:
      typeof allowFailure === "boolean" ? allowFailure : exitCode !== undefined && allowFailure.includes(exitCode),
    durationMs: pickedUpAt === undefined || finishedAt === undefined ? undefined : finishedAt - pickedUpAt,
    exitCode,
    failureReason: refused ? "dotenv_refused" : failureReason,
  };
}

/** What became of a job that starts a pipeline. */
export function resultOfTrigger(
  run: JobRun,
  state: "success" | "failed" | "canceled" | "skipped" | "manual",
  why: { readonly exitCode?: number | undefined; readonly failureReason?: string } = {},
): PipelineJob {
  const { job, startedAt, endedAt } = run;
  return {
    name: job.name,
    stage: job.stage,
    state,
    allowFailure: job.allowFailure === true,
    durationMs: startedAt === undefined || endedAt === undefined ? undefined : endedAt - startedAt,
    exitCode: why.exitCode,
    failureReason: why.failureReason,
  };
}
