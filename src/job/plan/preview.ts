import type { RunnerConfig } from "../../config/config.ts";
import type { Executor } from "../../executor/executor.ts";
import type { Op, ShellName } from "../../shell.ts";
import type { Job } from "../job.ts";
import { gitVariables } from "../variables/git-variables.ts";
import type { RunnerIdentity } from "../variables/variables.ts";
import { planJob } from "./plan.ts";
import { setUp } from "./set-up.ts";
import type { PlanSettings, Stage } from "./stage.ts";
import { draft, type Writers } from "./writers.ts";

export interface PreviewRequest {
  readonly job: Job;
  readonly runner: PlanSettings &
    Pick<RunnerConfig, "environment" | "shortToken" | "debugTraceDisabled" | "featureFlags" | "jobGitVariables">;
  readonly executor: Pick<Executor, "features">;
  readonly writers: Writers;
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
  readonly script: { readonly shell: ShellName; readonly text: string } | null;
  /** What is moved, as the plan has it. */
  readonly transfer: string | null;
}

/**
 * The plan of a job and the very scripts that it would run, without running anything.
 * @throws {SystemFailure | ScriptFailure} the job cannot run
 */
export function previewJob(request: PreviewRequest): PreviewStage[] {
  const { job, runner, executor, writers, identity, buildsDir, root, coordinatorOrigin } = request;
  const tmpDir = `${root}.tmp`;
  const place = { root, tmpDir, buildsDir, projectSlot: 0, acceptsName: writers.author.acceptsName };
  const { variables, settings } = setUp({ job, runner, identity, executor, concurrentId: 0 }, place);
  const gitMode = { mode: runner.jobGitVariables ?? "safe", apart: false, environment: runner.environment } as const;
  const { ops: gitOps } = gitVariables({ ...gitMode, names: variables.names(), get: variables.get });
  const planPlace = { root, tmpDir };
  const stages = planJob({ job, settings, variables, place: planPlace, runner, identity, coordinatorOrigin, gitOps });
  const scriptOf = (all: readonly Op[]): PreviewStage["script"] => {
    const { writer, ops } = draft(all, writers, false);
    const text = writer.write(ops, {
      tmpDir,
      xtrace: settings.debugTrace,
      proof: "(the shell has read this script)",
    });
    return { shell: writer.name, text };
  };
  return stages.map((stage) => ({
    name: stage.name,
    title: stage.title,
    when: stage.policy.when,
    script: stage.kind === "script" ? scriptOf(stage.ops) : null,
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
