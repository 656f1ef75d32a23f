import type { Writable } from "node:stream";
import type { LocalCoordinator } from "../../coordinator/coordinator.ts";
import type { LocalJob } from "../../coordinator/jobs/job.ts";
import type { PipelineJob } from "../../pipeline/pipeline-job.ts";
import { showJobs } from "../../report/job-displays.ts";
import { createLiveOutput, type TerminalSize } from "../../report/live-output.ts";
import { summaryLines } from "../../report/summary.ts";
import { printable } from "../../report/text-width.ts";
import type { Plan, PlannedJob, PlannedTrigger } from "../plan/plan.ts";
import { criticalPath } from "./critical-path.ts";
import { reportedBy } from "./dotenv.ts";
import { isForgiven, isRetried, type JobRun, notBegun, resultOf, rowOf, standingOf } from "./job-run.ts";
import { composite, moveOf } from "./schedule.ts";
import { type SpecOptions, specOfPlanned } from "./spec.ts";

export interface RunPlanOptions extends SpecOptions {
  readonly coordinator: LocalCoordinator;
  readonly plan: Plan;
  /** Jobs that run; the others count as if they were not there. */
  readonly chosen: ReadonlySet<string>;
  /** Manual jobs that run at once, as somebody asked for them. */
  readonly played: ReadonlySet<string>;
  /** Start delayed jobs at once. */
  readonly noDelay: boolean;
  /** Where the display goes; left open. */
  readonly output: Writable;
  readonly colors: boolean;
  readonly terminal: TerminalSize | undefined;
  readonly cancelNote: string;
  /** What a job uploaded, told once it has ended. */
  readonly keep?: (job: PlannedJob, local: LocalJob) => Promise<void>;
}

export interface RunPlanResult {
  /** GitLab would call the pipeline passed. */
  readonly success: boolean;
  readonly canceled: boolean;
  /** Jobs that wait for a person and hold up what comes after. */
  readonly blocked: readonly string[];
  readonly firstFailure: PipelineJob | undefined;
  readonly jobs: readonly PipelineJob[];
}

/**
 * Run a pipeline by GitLab's rules on whoever asks the coordinator for jobs: each job as soon as what it needs, or all of the
 * earlier stages, has ended as its `when` wants it. Shows their output line by line, and a table at the end. When `signal`
 * fires, what runs is canceled and the result says so. Rejects when `output` breaks.
 */
export async function runPlan(options: RunPlanOptions, signal: AbortSignal): Promise<RunPlanResult> {
  const { coordinator, plan, chosen, output, colors, terminal } = options;
  const runs = plan.jobs.filter(({ name }) => chosen.has(name)).map(notBegun);
  const byName = new Map(runs.map((run) => [run.job.name, run]));
  const live = createLiveOutput(output, { colors, names: runs.map(({ job }) => job.name), terminal });
  const say = (text: string): void => live.line(printable(text));
  const displays = showJobs(coordinator, live);
  const going = new Set<Promise<void>>();
  const stopping = new AbortController();
  const stop = (reason: unknown): void => stopping.abort(reason);
  let firstFailure: PipelineJob | undefined;
  let changed = Promise.withResolvers<void>();
  const wake = (): void => changed.resolve();
  const onAbort = (): void => {
    live.line(options.cancelNote);
    stop(signal.reason);
    wake();
  };

  const before = ({ job }: JobRun): { readonly runs: readonly JobRun[]; readonly asNeeds: boolean } => {
    if (job.needs !== null) return { runs: job.needs.flatMap((need) => byName.get(need.job) ?? []), asNeeds: true };
    const position = plan.stages.indexOf(job.stage);
    return { runs: runs.filter((other) => plan.stages.indexOf(other.job.stage) < position), asNeeds: false };
  };
  /** The jobs whose artifacts and reported variables a job gets, in the order of the pipeline. */
  const sources = (run: JobRun): JobRun[] => {
    const { needs, dependencies } = run.job;
    const position = plan.stages.indexOf(run.job.stage);
    return runs.filter(({ job }) => {
      const reaches =
        needs === null
          ? plan.stages.indexOf(job.stage) < position
          : needs.some((need) => need.artifacts && need.job === job.name);
      return reaches && (dependencies === null || dependencies.includes(job.name));
    });
  };

  /** Makes one try of a job. */
  const attempt = async (run: JobRun): Promise<PipelineJob> => {
    const from = sources(run);
    const reported = new Map(from.flatMap((source) => [...source.reported]));
    const given = from.flatMap(({ local }) => (local === undefined || local.artifacts.length === 0 ? [] : [local]));
    const local = coordinator.enqueue(specOfPlanned(run.job, options, given, reported));
    run.local = local;
    displays.open(local, run.job.name);
    try {
      await local.finished({ timeoutMs: Number.POSITIVE_INFINITY, signal: stopping.signal });
    } catch (error) {
      if (!stopping.signal.aborted) throw error;
      local.cancel("canceling");
      if (local.pickedUpAt !== undefined && !output.destroyed)
        await local.reported({ timeoutMs: Number.POSITIVE_INFINITY }).catch(() => undefined);
    }
    displays.end(local);
    const reports = await reportedBy(local.artifacts);
    if ("problem" in reports) say(`${run.job.name}: GitLab refuses its dotenv report: ${reports.problem}`);
    else run.reported = reports.variables;
    return resultOf(run.job, local, "problem" in reports);
  };

  const follow = async (run: JobRun): Promise<void> => {
    const { job } = run;
    for (let tries = 0; ; tries++) {
      const result = await attempt(run);
      run.result = result;
      if (result.state !== "failed" || stopping.signal.aborted || !isRetried(job.retry, tries, result)) break;
      say(`${job.name}: try ${tries + 2} of ${(job.retry?.max ?? 0) + 1}`);
    }
    run.endedAt = performance.now();
    if (run.local !== undefined) await options.keep?.(job, run.local);
    const { result } = run;
    run.state = result?.state === "failed" || result?.state === "success" ? result.state : "canceled";
    if (run.state === "failed" && !isForgiven(run)) {
      firstFailure ??= result;
      if (plan.cancelOnFailure) stop(new Error("A job has failed, and the workflow cancels the others then"));
    }
    wake();
  };
  const start = (run: JobRun): void => {
    run.state = "running";
    run.startedAt = performance.now();
    const end = follow(run);
    // The promise is awaited below, perhaps after others.
    end.catch(wake);
    going.add(end);
    end.then(
      () => going.delete(end),
      () => undefined,
    );
  };
  const delay = (run: JobRun, seconds: number): void => {
    run.state = "scheduled";
    say(`${run.job.name}: starts in ${seconds} s`);
    const timer = setTimeout(() => {
      if (!stopping.signal.aborted) start(run);
      wake();
    }, seconds * 1000);
    stopping.signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  };

  /** @returns whether something was decided: others may depend on it */
  const decide = (run: JobRun): boolean => {
    const { job } = run;
    const { runs: earlier, asNeeds } = before(run);
    const move = moveOf(job.when, composite(earlier.map(standingOf), asNeeds), asNeeds);
    if (move === "wait") return false;
    if (move === "skip") run.state = "skipped";
    else if (job.when === "manual" && !options.played.has(job.name)) run.state = "manual";
    else if (job.trigger !== null) {
      say(`${job.name}: ${pipelineOf(job.trigger)} is not started here`);
      run.state = "success";
    } else if (isHeld(run)) return false;
    else if (job.when === "delayed" && job.startInSeconds !== null && !options.noDelay) delay(run, job.startInSeconds);
    else {
      for (const what of job.leftOut) say(`${job.name}: ${what}`);
      start(run);
    }
    return true;
  };
  const isHeld = ({ job }: JobRun): boolean =>
    job.resourceGroup !== null &&
    runs.some((other) => other.state === "running" && other.job.resourceGroup === job.resourceGroup);

  signal.addEventListener("abort", onAbort, { once: true });
  output.on("error", stop);
  try {
    if (signal.aborted) onAbort();
    for (;;) {
      changed = Promise.withResolvers<void>();
      while (!stopping.signal.aborted && runs.some((run) => run.state === "created" && decide(run)));
      const waits = runs.some(({ state }) => state === "scheduled") && !stopping.signal.aborted;
      if (going.size === 0 && !waits) break;
      await Promise.race([changed.promise, ...going]);
    }
    await Promise.all(going);
  } finally {
    // Whatever went wrong, no job of this pipeline may go on by itself.
    stop(new Error("The pipeline has ended"));
    await Promise.allSettled(going);
    displays.close();
    signal.removeEventListener("abort", onAbort);
    output.off("error", stop);
  }
  if (output.errored) {
    live.close();
    throw output.errored;
  }
  const jobs = runs.map(rowOf);
  for (const text of summaryLines(jobs, colors, terminal?.columns())) live.line(text);
  const path = criticalPath(
    runs.map((run) => ({ ...run, name: run.job.name, before: before(run).runs.map(({ job }) => job.name) })),
  );
  if (path !== undefined) say(path);
  const blocked = runs.flatMap((run) => (run.state === "manual" && !isForgiven(run) ? [run.job.name] : []));
  if (blocked.length > 0) say(`blocked: ${blocked.join(", ")} waits for somebody to start it; --manual does`);
  live.close();
  const word = composite(runs.map(standingOf), false);
  const canceled = signal.aborted || word === "canceled";
  return { jobs, canceled, blocked, firstFailure, success: !canceled && firstFailure === undefined };
}

function pipelineOf({ project }: PlannedTrigger): string {
  return project === null ? "the child pipeline" : `the pipeline of ${project}`;
}
