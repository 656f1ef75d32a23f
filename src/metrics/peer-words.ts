import { type JobProgress, type JobResult, peerStage } from "../job/job.ts";

/** Where a job is, in the words of GitLab Runner's metrics and of its list of jobs. */
export interface PeerWords {
  readonly state: string;
  readonly stage: string;
  readonly executor_stage: string;
}

export function peerWords(progress: JobProgress): PeerWords {
  const words = { state: "running", stage: "", executor_stage: "" };
  switch (progress.at) {
    case "received":
      return { ...words, state: "pending" };
    case "resolving":
      return { ...words, stage: "resolve_secrets" };
    case "preparing":
      return { ...words, executor_stage: "prepare" };
    case "running":
      return { ...words, stage: peerStage(progress.stage, progress.failed === true) };
    case "finished":
    case "delivering":
      return { ...words, state: endOf(progress.outcome) };
  }
}

function endOf(outcome: JobResult): string {
  if (outcome.result !== "failed") return outcome.result;
  if (outcome.reason === "job_execution_timeout") return "timedout";
  return outcome.reason === "runner_interrupted" ? "terminated" : "failed";
}

/** Stages with a name of their own; a job's further steps are named by its author and would be labels without bound. */
const STAGES: ReadonlySet<string> = new Set([
  "",
  "resolve_secrets",
  "prepare_executor",
  "prepare_script",
  "get_sources",
  "restore_cache",
  "download_artifacts",
  "step_script",
  "after_script",
  "archive_cache",
  "archive_cache_on_failure",
  "upload_artifacts_on_success",
  "upload_artifacts_on_failure",
  "cleanup_file_variables",
]);

export function stageLabel(stage: string): string {
  return STAGES.has(stage) ? stage : "step";
}
