import type { JobView, RunnerView } from "../board/contract.ts";
import { reasonOf } from "../board/reason.ts";
import type { Tidied } from "../executor/keeping.ts";
import type { JobProgress, JobUsage } from "../job/job.ts";
import type { JobLine, RunnerLine, TidiedAnswer } from "./protocol.ts";
import type { Steering } from "./steering.ts";

/** Views of the board → what is said of them to other programs. */

export function jobLine(view: JobView, now: number, ended = false): JobLine {
  const { id, title, runnerName, runner, progress, receivedAt, queuedSeconds, since, traceBytes, stages } = view;
  const { outlives, adopted } = view;
  const over = progress.at === "finished" || progress.at === "delivering";
  return {
    id,
    title,
    runner: runnerName,
    runnerId: runner,
    ...(ended ? { state: "ended" } : stateOf(progress)),
    receivedAt: iso(receivedAt),
    since: iso(since),
    elapsedSeconds: Math.max(0, Math.round(((over ? since : now) - receivedAt) / 1000)),
    ...(queuedSeconds === undefined ? {} : { queuedSeconds }),
    traceBytes,
    ...(outlives ? { durable: true } : {}),
    ...(adopted === undefined ? {} : { adopted }),
    stages: stages.map(({ name, ms }) => ({ name, seconds: Math.round(ms) / 1000 })),
    ...(over ? { outcome: progress.outcome } : {}),
    ...(view.usage === undefined ? {} : { usage: toMilliseconds(view.usage) }),
  };
}

/** Programs of others know the states of before: a job that asks for its secrets is at a stage. */
function stateOf(progress: JobProgress): Pick<JobLine, "state" | "stage"> {
  if (progress.at === "resolving") return { state: "running", stage: "resolve_secrets" };
  return progress.at === "running" ? { state: progress.at, stage: progress.stage } : { state: progress.at };
}

/** Sums of times have digits that mean nothing. */
export function toMilliseconds<U extends JobUsage>(usage: U): U {
  const { cpuSeconds } = usage;
  return cpuSeconds === undefined ? usage : { ...usage, cpuSeconds: Math.round(cpuSeconds * 1000) / 1000 };
}

export function runnerLines({ board, figures }: Pick<Steering, "board" | "figures">, now: number): RunnerLine[] {
  const running = new Map<string, number>();
  for (const { runner, progress } of board.jobs()) {
    if (progress.at !== "delivering") running.set(runner, (running.get(runner) ?? 0) + 1);
  }
  return board.runners().map((view) => {
    const shown = figures(view.id).filter(({ value }) => value !== 0);
    const line = runnerLine(view, running.get(view.id) ?? 0, now);
    return shown.length === 0 ? line : { ...line, figures: [...shown] };
  });
}

function runnerLine(
  { name, id, executor, origin, limit, activity }: RunnerView,
  jobs: number,
  now: number,
): RunnerLine {
  return {
    name,
    id,
    executor,
    url: origin,
    limit: Number.isFinite(limit) ? limit : null,
    jobs,
    state: activity.at,
    reason: reasonOf(activity, now),
  };
}

function iso(time: number): string {
  return new Date(time).toISOString();
}

export function tidiedAnswer(things: readonly Tidied[], dry: boolean): TidiedAnswer {
  return { dry, things: things.map((thing) => ({ ...thing, usedAt: new Date(thing.usedAt).toISOString() })) };
}
