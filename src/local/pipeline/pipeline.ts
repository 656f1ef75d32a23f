import type { Writable } from "node:stream";
import type { LocalCoordinator } from "../coordinator/coordinator.ts";
import { tableAt, type Wire } from "../coordinator/http/wire.ts";
import type { JobSpec, LocalJob, VariableSpec } from "../coordinator/jobs/job.ts";
import { createLiveOutput, type JobDisplay, type TerminalSize } from "../report/live-output.ts";
import { summaryLines } from "../report/summary.ts";
import type { CiFile, CiJob } from "./ci-file.ts";
import { runsOn } from "./ci-refs.ts";
import { findJob } from "./needs.ts";
import type { PipelineJob } from "./pipeline-job.ts";

export interface PipelineProject {
  /** Anything that git can clone from where the runner is: a path, a URL. */
  readonly repoUrl: string;
  readonly sha: string;
  /** Short, or full: `main`, `refs/tags/v1`. */
  readonly ref: string;
  readonly refType?: "branch" | "tag";
  readonly beforeSha?: string;
  /** Default: `project`. */
  readonly name?: string;
  /** What tells it from others of that name. Default: 1. */
  readonly id?: number;
}

export interface PipelineOptions {
  readonly coordinator: LocalCoordinator;
  readonly file: CiFile;
  readonly project: PipelineProject;
  /** Where the display goes; left open. */
  readonly output: Writable;
  readonly colors: boolean;
  /** Variables that must not show in a trace: the project's secrets. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** Variables that the coordinator sets and those of the file win over. */
  readonly predefined?: readonly VariableSpec[];
  /** Variables of the project: they win over those of the file, and may be secret. */
  readonly variables?: readonly VariableSpec[];
  /** Where it is a terminal: a line per running job is kept up to date below the output. */
  readonly terminal?: TerminalSize | undefined;
  /**
   * Names of the jobs to run, whatever their `when` and refs say; one whose earlier stages failed is left out as ever.
   * Default: what a push would run.
   */
  readonly only?: readonly string[];
  /** Hand the jobs to the runner with this token only. Tags do not matter here. */
  readonly runnerToken?: string;
  /** Each job's limit. Default: 3600. */
  readonly timeoutSeconds?: number;
  /** How long a canceled job may take to send its last lines. Default: 10,000. */
  readonly lastWordsMs?: number;
  /** A line that is shown when `signal` fires. */
  readonly cancelNote?: string;
}

export interface PipelineResult {
  /** No job failed that was not allowed to, and none was canceled. */
  readonly success: boolean;
  readonly canceled: boolean;
  /** The job that failed before all others and was not allowed to. */
  readonly firstFailure: PipelineJob | undefined;
  /** In the order of stages. */
  readonly jobs: readonly PipelineJob[];
}

/** How long a canceled job may take to send its last lines. */
const LAST_WORDS_MS = 10_000;

/**
 * Run the jobs of a CI file on whoever asks the coordinator for jobs, by AlloyCI's rules: stages one after the other,
 * each job when all earlier stages are over and ended as its `when` wants it; `always` jobs start at once. Shows their
 * output line by line, and a table at the end. When `signal` fires, what runs is canceled and the result says so.
 * Rejects when `output` breaks.
 * @throws {CommandError} `only` names a job that is not there
 */
export async function runPipeline(options: PipelineOptions, signal: AbortSignal): Promise<PipelineResult> {
  const { coordinator, file, project, output, colors, only, terminal, lastWordsMs = LAST_WORDS_MS } = options;
  for (const name of only ?? []) findJob(name, file);
  const chosen = file.jobs.filter((job) =>
    only === undefined ? runsOn(job, fullRef(project)) : only.includes(job.name),
  );
  const stages = file.stages.filter((stage) => chosen.some((job) => job.stage === stage));
  const live = createLiveOutput(output, { colors, names: chosen.map(({ name }) => name), terminal });
  const displays = new Map<LocalJob, JobDisplay>();
  const started = new Map<CiJob, LocalJob>();
  const finished = new Map<CiJob, Promise<PipelineJob>>();
  const results = new Map<CiJob, PipelineJob>();
  const stopping = new AbortController();
  const stop = (reason: unknown): void => stopping.abort(reason);
  const onAbort = (): void => {
    if (options.cancelNote !== undefined) live.line(options.cancelNote);
    stop(signal.reason);
  };
  const offTrace = coordinator.on("trace", ({ job, bytes }) => displays.get(job)?.write(bytes));
  const offJob = coordinator.on("job", (job) => {
    if (job.status === "running") displays.get(job)?.started();
  });

  const conclude = (job: CiJob, result: PipelineJob): PipelineJob => {
    results.set(job, result);
    return result;
  };

  const follow = async (job: CiJob, local: LocalJob): Promise<PipelineJob> => {
    try {
      await local.finished({ timeoutMs: Number.POSITIVE_INFINITY, signal: stopping.signal });
    } catch (error) {
      if (!stopping.signal.aborted) throw error;
      local.cancel("canceling");
    }
    if (local.status.startsWith("cancel") && local.pickedUpAt !== undefined && !output.destroyed)
      await local.reported({ timeoutMs: lastWordsMs }).catch(() => undefined);
    displays.get(local)?.end(local);
    displays.delete(local);
    const result = resultOf(job, local);
    return conclude(job, result);
  };

  const start = (job: CiJob): void => {
    const local = coordinator.enqueue(specOf(job, options, dependenciesOf(job, file, started)));
    displays.set(local, live.open(job.name));
    started.set(job, local);
    const end = follow(job, local);
    // Awaited below, perhaps only after others.
    end.catch(() => undefined);
    finished.set(job, end);
  };

  signal.addEventListener("abort", onAbort, { once: true });
  output.on("error", stop);
  try {
    if (signal.aborted) onAbort();
    else if (only === undefined) for (const job of chosen) if (job.when === "always") start(job);
    for (const stage of stages) {
      const earlier = chosen.filter((job) => file.stages.indexOf(job.stage) < file.stages.indexOf(stage));
      await Promise.all(earlier.map((job) => finished.get(job)));
      const failed = earlier.some((job) => hurts(results.get(job)));
      for (const job of chosen) {
        if (job.stage !== stage || started.has(job)) continue;
        const state = stopping.signal.aborted ? "skipped" : decide(job, failed, only !== undefined);
        if (state === "start") start(job);
        else conclude(job, { ...emptyResult(job), state });
      }
    }
    await Promise.all(finished.values());
  } finally {
    // Whatever went wrong, nothing of this pipeline goes on by itself.
    stop(new Error("The pipeline has ended"));
    await Promise.allSettled(finished.values());
    offTrace();
    offJob();
    signal.removeEventListener("abort", onAbort);
    output.off("error", stop);
  }
  if (output.errored) {
    live.close();
    throw output.errored;
  }

  const jobs = stages.flatMap((stage) =>
    chosen.flatMap((job) => (job.stage === stage ? (results.get(job) ?? []) : [])),
  );
  if (jobs.length === 0) live.line(`No job of ${file.file} runs on ${fullRef(project)}.`);
  else for (const text of summaryLines(jobs, colors, terminal?.columns())) live.line(text);
  live.close();
  const canceled = signal.aborted || jobs.some(({ state }) => state === "canceled");
  const firstFailure = [...results.values()].find((job) => job.state === "failed" && hurts(job));
  return { jobs, canceled, firstFailure, success: !canceled && !jobs.some(hurts) };
}

/** AlloyCI's rule for a job that waits, once all earlier stages are over. `named`: somebody asked for this very job. */
function decide(job: CiJob, failedBefore: boolean, named: boolean): "start" | "skipped" | "manual" {
  if (named) return failedBefore && (job.when === "on_success" || job.when === "manual") ? "skipped" : "start";
  if (job.when === "manual") return failedBefore ? "skipped" : "manual";
  return (job.when === "on_failure") === failedBefore || job.when === "always" ? "start" : "skipped";
}

function hurts(result: PipelineJob | undefined): boolean {
  if (result === undefined) return false;
  return result.state === "canceled" || (result.state === "failed" && !result.allowFailure);
}

function emptyResult({ name, stage, allowFailure }: CiJob): Omit<PipelineJob, "state"> {
  return { name, stage, allowFailure, durationMs: undefined, exitCode: undefined, failureReason: undefined };
}

function resultOf(job: CiJob, local: LocalJob): PipelineJob {
  const { status, pickedUpAt, finishedAt, exitCode, failureReason } = local;
  return {
    ...emptyResult(job),
    state: status === "success" || status === "failed" ? status : "canceled",
    durationMs: pickedUpAt === undefined || finishedAt === undefined ? undefined : finishedAt - pickedUpAt,
    exitCode,
    failureReason,
  };
}

/** Jobs whose artifacts `job` gets: those of earlier stages that ran, or of these the ones it names. */
function dependenciesOf(job: CiJob, file: CiFile, started: ReadonlyMap<CiJob, LocalJob>): LocalJob[] {
  const position = file.stages.indexOf(job.stage);
  return [...started].flatMap(([other, local]) => {
    const wanted = other.artifacts !== undefined && (job.dependencies?.includes(other.name) ?? true);
    return wanted && file.stages.indexOf(other.stage) < position ? [local] : [];
  });
}

/** What the coordinator is asked to hand out for a job of the file. */
export function specOf(
  job: CiJob,
  {
    project,
    secrets = {},
    predefined = [],
    variables = [],
    ...options
  }: Omit<PipelineOptions, "coordinator" | "output" | "colors">,
  dependencies: readonly LocalJob[],
): JobSpec {
  const open: VariableSpec[] = Object.entries(job.variables).map(([key, value]) => ({ key, value }));
  const secret: VariableSpec[] = Object.entries(secrets).map(([key, value]) => ({ key, value, masked: true }));
  const { repoUrl, sha, ref, refType, beforeSha, name, id } = project;
  return {
    name: job.name,
    stage: job.stage,
    script: job.script,
    // What comes later wins.
    variables: [...predefined, ...open, ...variables, ...secret],
    git: {
      repoUrl,
      sha,
      ref,
      ...(refType === undefined ? {} : { refType }),
      ...(beforeSha === undefined ? {} : { beforeSha }),
    },
    ...(sha.length === 64 ? { payload: withSha256 } : {}),
    services: job.services,
    when: job.when,
    allowFailure: job.allowFailure,
    dependencies,
    ...(job.afterScript === undefined ? {} : { afterScript: job.afterScript }),
    ...(job.image === undefined ? {} : { image: job.image }),
    ...(job.artifacts === undefined ? {} : { artifacts: job.artifacts }),
    ...(job.cache === undefined ? {} : { cache: job.cache }),
    ...(name === undefined ? {} : { projectName: name }),
    ...(id === undefined ? {} : { projectId: id }),
    ...(options.runnerToken === undefined ? {} : { runnerToken: options.runnerToken }),
    ...(options.timeoutSeconds === undefined ? {} : { timeoutSeconds: options.timeoutSeconds }),
  };
}

/** AlloyCI knows no such repositories; whoever can run them needs to be told. */
function withSha256(payload: Wire): Wire {
  return { ...payload, git_info: { ...tableAt(payload, "git_info"), repo_object_format: "sha256" } };
}

export function fullRef({ ref, refType }: PipelineProject): string {
  if (ref.startsWith("refs/") || ref.includes(":")) return ref;
  return `refs/${refType === "tag" ? "tags" : "heads"}/${ref}`;
}
