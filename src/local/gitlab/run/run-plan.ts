import type { Writable } from "node:stream";
import type { LocalJob } from "../../coordinator/jobs/job.ts";
import type { PipelineJob } from "../../pipeline/pipeline-job.ts";
import { showJobs, showNothing } from "../../report/job-displays.ts";
import { createLiveOutput, type TerminalSize } from "../../report/live-output.ts";
import { summaryLines } from "../../report/summary.ts";
import { printable } from "../../report/text-width.ts";
import type { LoadedPlan } from "../load.ts";
import { createBell } from "./bell.ts";
import { criticalPath, type Timed } from "./critical-path.ts";
import { type Floor, followPipeline } from "./follow.ts";
import { type JobRun, notBegun, type Pipeline, rowsOf } from "./job-run.ts";
import { before } from "./sources.ts";

export interface RunPlanOptions
  extends Pick<Floor, "coordinator" | "handed" | "overrides" | "noDelay" | "isPlayed" | "pick" | "lastWordsMs"> {
  readonly loaded: LoadedPlan;
  /** Jobs that run; the others count as if they were not there. */
  readonly chosen: ReadonlySet<string>;
  /** Where the display goes; left open. */
  readonly output: Writable;
  readonly colors: boolean;
  readonly terminal: TerminalSize | undefined;
  readonly cancelNote: string | undefined;
  /** Leave out what jobs print. */
  readonly quiet?: boolean;
  /** What a job uploaded, told once it has ended. */
  readonly keep?: (name: string, local: LocalJob) => Promise<void>;
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
 * Run a pipeline and its children by GitLab's rules on whoever asks the coordinator for jobs. Shows their output line by
 * line, and a table at the end. When `signal` fires, what runs is canceled and the result says so. Rejects when `output`
 * breaks.
 */
export async function runPlan(options: RunPlanOptions, signal: AbortSignal): Promise<RunPlanResult> {
  const { coordinator, loaded, chosen, output, colors, terminal } = options;
  const pipeline: Pipeline = {
    loaded,
    id: "1",
    label: "",
    parent: undefined,
    given: [],
    runs: loaded.plan.jobs.filter(({ name }) => chosen.has(name)).map(notBegun),
    heldAbove: new Set(),
  };
  const live = createLiveOutput(output, { colors, names: pipeline.runs.map(({ job }) => job.name), terminal });
  const say = (text: string): void => live.line(printable(text));
  const displays = options.quiet === true ? showNothing : showJobs(coordinator, live);
  const stopping = new AbortController();
  const stop = (reason: unknown): void => stopping.abort(reason);
  const onAbort = (): void => {
    if (options.cancelNote !== undefined) live.line(options.cancelNote);
    stop(signal.reason);
  };
  let pipelines = 1;
  const floor: Floor = {
    ...options,
    displays,
    say,
    keep: options.keep,
    isGone: () => output.destroyed,
    bell: createBell(),
    busy: new Set(),
    nextId: () => String(++pipelines),
  };
  signal.addEventListener("abort", onAbort, { once: true });
  output.on("error", stop);
  let followed: Awaited<ReturnType<typeof followPipeline>>;
  try {
    if (signal.aborted) onAbort();
    followed = await followPipeline(pipeline, floor, stopping.signal);
  } finally {
    displays.close();
    signal.removeEventListener("abort", onAbort);
    output.off("error", stop);
  }
  if (output.errored) {
    live.close();
    throw output.errored;
  }
  const jobs = rowsOf(pipeline);
  for (const text of summaryLines(jobs, colors, terminal?.columns())) live.line(text);
  // AlloyCI's jobs wait for stages, which the table shows.
  const path = options.handed.dialect === "alloy" ? undefined : criticalPath(timed(pipeline, []));
  if (path !== undefined) say(path);
  const blocked = blockedIn(pipeline);
  if (blocked.length > 0) say(`blocked: ${blocked.join(", ")} waits for somebody to start it; --manual does`);
  live.close();
  const { word, firstFailure } = followed;
  const canceled = signal.aborted || word === "canceled";
  return { jobs, canceled, blocked, firstFailure, success: !canceled && firstFailure === undefined };
}

/** All jobs with what they waited for. @param above what the job waited for that started the pipeline */
function timed(pipeline: Pipeline, above: readonly string[]): Timed[] {
  const { label, runs } = pipeline;
  const full = ({ job }: JobRun): string => `${label}${job.name}`;
  return runs.flatMap((run) => {
    const own = before(run, pipeline).runs.map(full);
    const earlier = own.length === 0 ? above : own;
    const children = run.child === undefined ? [] : timed(run.child, earlier);
    const waits = run.job.trigger?.strategy !== null ? children.map(({ name }) => name) : [];
    return [{ ...run, name: full(run), before: [...earlier, ...waits] }, ...children];
  });
}

/** Jobs that wait for somebody and hold up what comes after; not the jobs that wait for their pipelines. */
function blockedIn({ label, runs }: Pipeline): string[] {
  return runs.flatMap((run) => {
    if (run.child !== undefined) return blockedIn(run.child);
    return run.state === "manual" && run.job.blocks ? [`${label}${run.job.name}`] : [];
  });
}
