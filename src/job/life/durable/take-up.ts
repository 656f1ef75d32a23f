import { uptime } from "node:os";
import { describeError, handsOver, Stop, SystemFailure } from "../../../errors.ts";
import type { Environment } from "../../../executor/environment.ts";
import type { Note } from "../../../executor/prepare.ts";
import type { Log } from "../../../log.ts";
import { deadline, retry, unlessAborted } from "../../../time.ts";
import { projectPathOf } from "../../sources/project-path.ts";
import { trustOf } from "../../sources/trust.ts";
import type { FoundJob, ReceivedJob } from "../received.ts";
import type { FoundRun } from "../request.ts";
import { type FoundProgress, progressOf } from "./found.ts";
import type { WholeLife } from "./look.ts";

/** A job that takes its runner with it each time is not gone on with for ever. */
const MOST_ADOPTIONS = 20;
const WITHIN_SECONDS = 600;
const TRIES = 3;
const LIMIT_MS = 60_000;

/** How a job of an earlier process goes on, or why nobody can go on with it: where the signal has fired, that is why. */
export type TakenUp = { readonly run: FoundRun } | { readonly lost: string };

/** @param log hears what of a finished job's place is left */
export async function takeUp(received: ReceivedJob, found: FoundJob, log: Log, signal: AbortSignal): Promise<TakenUp> {
  const now = uptime();
  const progress = progressOf(found.life, now);
  const taken = await reach(received, found, { progress, now }, signal);
  if (!("lost" in taken) || progress.finished === null || handsOver(signal)) return taken;
  // How it ended is known, and its place was being removed since.
  const { left } = await cleanUp(received, found, signal);
  if (left.length > 0) log.warn("something of a job is left", { problem: left.join("; ") });
  return { run: { progress } };
}

/** Removes what was made for it. */
async function cleanUp(
  { executor }: Pick<ReceivedJob, "executor">,
  { leftover: { record, notes } }: FoundJob,
  signal: AbortSignal,
): Promise<{ readonly left: readonly string[] }> {
  const crash: Note = { kind: "crash", boot: record.stored.boot, sameBoot: true };
  try {
    return await executor.recover(record.stored.key, [...notes, crash], signal);
  } catch (error) {
    return { left: [describeError(error)] };
  }
}

async function reach(
  received: ReceivedJob,
  foundJob: FoundJob,
  { progress, now }: { readonly progress: FoundProgress; readonly now: number },
  signal: AbortSignal,
): Promise<TakenUp> {
  const { job, entry, executor, concurrentId } = received;
  const { leftover, life } = foundJob;
  const { handle, finished } = progress;
  const { record } = leftover;
  const { plan, variables } = life;
  const lately = progress.adoptions.filter((at) => at > now - WITHIN_SECONDS).length;
  if (lately >= MOST_ADOPTIONS) return { lost: `it was gone on with ${lately} times within 10 min` };
  const found = {
    progress,
    ...(plan === null ? {} : { plan }),
    ...(variables === null ? {} : { variables }),
  };
  /** What was made for it so far goes, and it is made anew. */
  const anew = async (): Promise<TakenUp> => {
    const { left } = await cleanUp(received, foundJob, signal);
    return left.length === 0 ? { run: { progress } } : { lost: left.join("; ") };
  };
  if (handle === undefined) {
    if (progress.preparations === 0) return { run: found };
    return await anew();
  }
  if (handle === null || executor.adopt === undefined) return { lost: "its scripts end with the runner" };
  if (plan === null && begun(progress)) return { lost: "what it was to do was not kept" };
  const request = {
    job,
    jobKey: record.stored.key,
    runnerId: entry.id,
    concurrentId: plan?.concurrentId ?? (await concurrentId),
    projectPath: projectPathOf(job),
    trust: trustOf(job),
    remember: record.remember,
    fresh: finished === null && !begun(progress),
  };
  const { adopt, adoptMs = LIMIT_MS } = executor;
  using limit = deadline(signal, adoptMs, new Stop("timed_out", `took longer than ${adoptMs / 1000} s`));
  try {
    const environment: Environment = await retry(
      { attempts: TRIES },
      () => unlessAborted(adopt.call(executor, request, handle, limit.signal), limit.signal),
      limit.signal,
    );
    return { run: { ...found, environment } };
  } catch (error) {
    if (handsOver(signal)) return { lost: describeError(error) };
    if (!(error instanceof SystemFailure || error instanceof Stop)) throw error;
    const why = describeError(error);
    return finished === null && !begun(progress) ? await anew() : { lost: why };
  }
}

/** How often processes of the runner have gone on with it. */
export function timesAdopted({ entries }: WholeLife): number {
  return entries.filter(({ kind }) => kind === "adopted").length;
}

/** A stage of the plan has begun. */
function begun({ stage, next }: FoundProgress): boolean {
  return stage !== null || next > 0;
}
