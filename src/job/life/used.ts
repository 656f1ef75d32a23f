import { Stop } from "../../errors.ts";
import type { Environment } from "../../executor/environment.ts";
import { deadline, never, unlessAborted } from "../../time.ts";
import type { JobUsage } from "../job.ts";

/** What is not told by then is not waited for. */
const LIMIT_MS = 2000;
/** Stages that took less are not worth a word. */
const SHORT_MS = 100;
/** Most stages in a line: a job's author may make any number of them. */
const MOST_STAGES = 12;

/** How long a job was at each of its stages, each once, in order. */
export interface StageClock {
  /** It comes to this stage now; `undefined`: to none. */
  enter(stage: string | undefined): void;
  /** It was at this stage for so long already. */
  add(stage: string, ms: number): void;
  readonly times: ReadonlyMap<string, number>;
}

export function createStageClock(now = (): number => performance.now()): StageClock {
  const times = new Map<string, number>();
  let at: { readonly stage: string; readonly since: number } | undefined;
  const add = (stage: string, ms: number): void => void times.set(stage, (times.get(stage) ?? 0) + ms);
  return {
    times,
    add,
    enter(stage) {
      if (at !== undefined) add(at.stage, now() - at.since);
      at = stage === undefined ? undefined : { stage, since: now() };
    },
  };
}

/** What the job has used, as far as its surroundings tell; nothing where they cannot. */
export async function usageOf(environment: Environment): Promise<JobUsage> {
  if (environment.usage === undefined) return {};
  using limit = deadline(never, LIMIT_MS, new Stop("timed_out", "no answer"));
  return await unlessAborted(environment.usage(limit.signal), limit.signal).catch(() => ({}));
}

/** The same once nothing of the job runs any more. */
export function asEnded({ memoryBytes: _, ...usage }: JobUsage): JobUsage {
  return usage;
}

/** `Used 41.3 s of processor time, at most 312 MiB of memory; took 34.0 s: prepare_executor 3.1 s, build_script 30.9 s` */
export function usageLine(usage: JobUsage, times: ReadonlyMap<string, number>): string {
  const { cpuSeconds, peakMemoryBytes, readBytes, writtenBytes, imageSeconds } = usage;
  const used = [
    ...(cpuSeconds === undefined ? [] : [`${cpuSeconds.toFixed(1)} s of processor time`]),
    ...(peakMemoryBytes === undefined ? [] : [`at most ${size(peakMemoryBytes)} of memory`]),
    ...(readBytes === undefined ? [] : [`${size(readBytes)} read`]),
    ...(writtenBytes === undefined ? [] : [`${size(writtenBytes)} written`]),
  ];
  const totalMs = [...times.values()].reduce((sum, ms) => sum + ms, 0);
  const stages = [...times].flatMap(([stage, ms]) => {
    const image =
      stage === "prepare_executor" && imageSeconds !== undefined ? ` (images ${imageSeconds.toFixed(1)} s)` : "";
    return ms < SHORT_MS ? [] : [`${stage} ${seconds(ms)}${image}`];
  });
  const shown = stages.slice(0, MOST_STAGES);
  if (shown.length < stages.length) shown.push(`${stages.length - shown.length} more`);
  const took = `took ${seconds(totalMs)}${shown.length === 0 ? "" : `: ${shown.join(", ")}`}`;
  return used.length === 0 ? took.replace(/^t/, "T") : `Used ${used.join(", ")}; ${took}`;
}

/** The same for the runner's log. */
export function usageFields(usage: JobUsage, times: ReadonlyMap<string, number>): Record<string, string | number> {
  const stages = [...times].map(([stage, ms]) => `${stage}=${(ms / 1000).toFixed(3)}`).slice(0, MOST_STAGES);
  const { cpuSeconds, peakMemoryBytes, readBytes, writtenBytes, imageSeconds } = usage;
  return {
    ...(cpuSeconds === undefined ? {} : { cpu_seconds: Number(cpuSeconds.toFixed(3)) }),
    ...(peakMemoryBytes === undefined ? {} : { peak_memory_bytes: peakMemoryBytes }),
    ...(readBytes === undefined ? {} : { read_bytes: readBytes }),
    ...(writtenBytes === undefined ? {} : { written_bytes: writtenBytes }),
    ...(imageSeconds === undefined ? {} : { image_seconds: Number(imageSeconds.toFixed(3)) }),
    stage_seconds: stages.join(" "),
  };
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function size(bytes: number): string {
  return bytes < 2 ** 30 ? `${Math.round(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
