import type { RunnerConfig } from "../../config/config.ts";
import { ScriptFailure } from "../../errors.ts";
import type { Executor } from "../../executor.ts";
import type { ShellWriter } from "../../shell.ts";
import type { Job } from "../job.ts";
import { createVariables, type RunnerIdentity, type VariableSources } from "../variables/variables.ts";
import { type PlanSettings, planJob, type Stage } from "./plan.ts";
import { readSettings } from "./settings.ts";

export interface PreviewRequest {
  readonly job: Job;
  readonly runner: PlanSettings & Pick<RunnerConfig, "environment" | "debugTraceDisabled">;
  readonly executor: Pick<Executor, "features">;
  readonly writer: ShellWriter;
  readonly identity: RunnerIdentity;
  /** `builds_dir` and checkout as they are to appear; the real ones are known once the job runs. */
  readonly buildsDir: string;
  readonly root: string;
  readonly coordinatorOrigin: string;
}

/** One stage of a job's plan, for a person to read. */
export interface PreviewStage {
  readonly name: string;
  readonly title: string;
  readonly when: string;
  /** The script's whole text; `null` for files that the runner moves itself. */
  readonly script: string | null;
  /** What is moved, as the plan has it. */
  readonly transfer: string | null;
}

/**
 * The plan of a job and the very scripts that it would run, without running anything.
 * @throws {ScriptFailure} the job cannot run
 */
export function previewJob(request: PreviewRequest): PreviewStage[] {
  const { job, runner, executor, writer, identity, buildsDir, root, coordinatorOrigin } = request;
  const tmpDir = `${root}.tmp`;
  const sources: VariableSources = {
    job,
    environment: runner.environment,
    identity,
    concurrentId: 0,
    shared: executor.features.shared,
    place: { root, tmpDir, buildsDir, projectSlot: 0, acceptsName: writer.acceptsName },
  };
  const variables = createVariables(sources);
  const settings = readSettings(job, { get: variables.get, debugTraceDisabled: runner.debugTraceDisabled });
  const problem = job.problem ?? settings.problem ?? variables.problem;
  if (problem !== null) throw new ScriptFailure(problem);
  const stages = planJob({ job, settings, variables, place: { root, tmpDir }, runner, coordinatorOrigin });
  return stages.map((stage) => ({
    name: stage.name,
    title: stage.title,
    when: stage.policy.when,
    script:
      stage.kind === "script"
        ? writer.write(stage.ops, { tmpDir, xtrace: settings.debugTrace, proof: "(the shell has read this script)" })
        : null,
    transfer: describe(stage),
  }));
}

function describe(stage: Stage): string | null {
  if (stage.kind === "script") return null;
  const { transfer } = stage;
  switch (transfer.what) {
    case "download_artifacts":
      return `of ${transfer.dependencies.map(({ name }) => name).join(", ")}`;
    case "upload_artifacts":
      return pathsOf(transfer.upload);
    case "restore_cache":
    case "archive_cache":
      return transfer.caches.map((cache) => `"${cache.key}": ${pathsOf(cache)}`).join("; ");
  }
}

function pathsOf({ paths, untracked }: { readonly paths: readonly string[]; readonly untracked: boolean }): string {
  return [...paths, ...(untracked ? ["all that git does not know"] : [])].join(", ");
}
