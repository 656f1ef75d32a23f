import { type Coordinator, troubleOf } from "../../coordinator/contract.ts";
import { describeError, Stop, SystemFailure } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { backoff, pause } from "../../time.ts";
import type { JobCredentials } from "../job.ts";

export interface AcknowledgeOptions {
  readonly job: JobCredentials;
  readonly coordinator: Pick<Coordinator, "updateJob">;
  /** Resolves when the job may run. */
  readonly room: number | Promise<number>;
  readonly log: Log;
  readonly timing?: AcknowledgeTiming;
}

export interface AcknowledgeTiming {
  /** Between signs of life while a job waits for room. Default 30 s: GitLab takes a job back after 2 min of silence. */
  readonly heartbeatMs?: number;
  /** How long an acknowledgement is tried. Default 150 s: by then GitLab has given the job to somebody else. */
  readonly acknowledgeMs?: number;
  /** First pause between tries; doubles up to 10 s. Default 250. */
  readonly againMs?: number;
}

/**
 * GitLab's two-phase commit: a job that was handed out stays pending until its runner says `running`, which this runner
 * does once the job is on disk and has room. Unless that was heard, nothing of the job may run: GitLab gives it away again.
 * Versions without it, where the job runs since it was handed out, take the same calls for signs of life; AlloyCI gets none.
 * @returns why the job must not run, or `null`; never rejects
 */
export async function acknowledgeJob(options: AcknowledgeOptions, signal: AbortSignal): Promise<Error | null> {
  const { room } = options;
  if (options.job.dialect === "alloy") {
    await room;
    return null;
  }
  try {
    if (typeof room !== "number") await keepWaiting(options, room);
    await acknowledge(options, signal);
    return null;
  } catch (error) {
    const cause: unknown = signal.aborted ? signal.reason : error;
    return cause instanceof Error ? cause : new SystemFailure(describeError(cause));
  }
}

/** @throws {Stop} the coordinator wants the job no more */
async function keepWaiting(options: AcknowledgeOptions, room: Promise<number>): Promise<void> {
  const { job, coordinator, log, timing: { heartbeatMs = 30_000 } = {} } = options;
  const arrived = new AbortController();
  const ready = room.then(() => arrived.abort(new Error("there is room")));
  for (;;) {
    await pause(heartbeatMs, arrived.signal).catch(() => undefined);
    if (arrived.signal.aborted) return;
    try {
      const answer = await coordinator.updateJob(job, { state: "pending" }, arrived.signal);
      if (answer.kind === "done" && answer.status !== "running") throw stopOf(answer.status);
    } catch (error) {
      if (error instanceof Stop) throw error;
      if (arrived.signal.aborted) return;
      // A version without two phases says 400: the job counts as running there and needs no sign of life.
      if (troubleOf(error)?.kind === "invalid") return await ready;
      log.debug("cannot say that the job waits", { problem: describeError(error) });
    }
  }
}

async function acknowledge(options: AcknowledgeOptions, signal: AbortSignal): Promise<void> {
  const { job, coordinator, log, timing = {} } = options;
  const { acknowledgeMs = 150_000, againMs = 250 } = timing;
  const waits = backoff({ firstMs: againMs, maxMs: 10_000 });
  const end = performance.now() + acknowledgeMs;
  for (;;) {
    signal.throwIfAborted();
    try {
      const answer = await coordinator.updateJob(job, { state: "running" }, signal);
      if (answer.kind === "done" && answer.status !== "running") throw stopOf(answer.status);
      if (answer.kind === "done" || answer.kind === "again") return;
      throw new SystemFailure("the answer to the acknowledgement makes no sense", { retry: true });
    } catch (error) {
      const waitMs = Math.max(waits.next(), troubleOf(error)?.retryAfterMs ?? 0);
      const again = error instanceof SystemFailure && error.retry;
      if (error instanceof Stop || signal.aborted) throw error;
      if (!again || performance.now() + waitMs > end) {
        throw new SystemFailure("the coordinator did not hear in time that the job was taken; it may run elsewhere", {
          cause: error,
        });
      }
      log.debug("cannot acknowledge the job yet", { problem: describeError(error) });
      await pause(waitMs, signal);
    }
  }
}

function stopOf(status: "canceling" | "gone"): Stop {
  return new Stop(status === "gone" ? "canceled" : "canceling", "by the coordinator, before it started");
}
