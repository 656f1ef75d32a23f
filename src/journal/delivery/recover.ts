import { describeError, Stop, SystemFailure } from "../../errors.ts";
import type { Executor, Recovered } from "../../executor/executor.ts";
import type { Note } from "../../executor/prepare.ts";
import type { Log } from "../../log.ts";
import { deadline, retry, unlessAborted } from "../../time.ts";
import type { JobRecord, Journal, LeftoverJob, Outbox, StoredJob } from "../contract.ts";
import { sealDeadTrace } from "./dead-trace.ts";

export interface RecoveryOptions {
  readonly journal: Journal;
  readonly outbox: Outbox;
  /** Who cleans up after this job; `null`: its executor is not known (any more). */
  readonly executorFor: (stored: StoredJob) => Promise<Pick<Executor, "recover"> | null>;
  readonly log: Log;
  /** What else is to be said of a job that died: why nobody goes on with it. What it had kept for that may go then. */
  readonly lookAt?: (record: JobRecord) => Promise<string | null>;
  /** Jobs that have not died: they go on in this process. */
  readonly goesOn?: (leftover: LeftoverJob) => boolean;
  /** For all of it together; then it goes on without. */
  readonly timeoutMs?: number;
  /** Tries per job, and the first pause between them. */
  readonly attempts?: number;
  readonly pauseMs?: number;
}

export interface Recovery {
  /** Jobs that died with the last process: cleaned up and reported. */
  readonly dead: number;
  /** Jobs that were finished, but not delivered. */
  readonly undelivered: number;
  /** All of them have arrived, or are kept for the next start. */
  readonly delivered: Promise<void>;
}

/** Jobs cleaned up at the same time. */
const PARALLEL = 4;

/**
 * At start, before or beside the first polls: what the last process left is cleaned up, reported and delivered.
 * A job whose clean-up fails is reported all the same, and its trace says so. When `signal` fires, jobs without a
 * verdict stay as they are for the next start.
 */
export async function recoverJobs(options: RecoveryOptions, signal: AbortSignal): Promise<Recovery> {
  const { journal, outbox, log, goesOn, timeoutMs = 60_000 } = options;
  const leftovers = journal.leftovers().filter((leftover) => goesOn?.(leftover) !== true);
  const deliveries: Promise<unknown>[] = [];
  const deliver = (leftover: LeftoverJob): void => {
    const delivery = outbox.adopt(leftover).catch((error: unknown) => {
      log.error(`cannot deliver job ${leftover.record.stored.id}`, { problem: describeError(error) });
    });
    deliveries.push(delivery);
  };

  const undelivered = leftovers.filter(({ record }) => record.report !== null);
  undelivered.forEach(deliver);
  const dead = leftovers.filter(({ record }) => record.report === null);
  if (dead.length > 0) {
    const jobs = dead.length === 1 ? "a job" : `${dead.length} jobs`;
    log.warn(`${jobs} died with the last runner process: cleaning up and reporting`);
  }
  const queue = dead.values();
  using limit = deadline(signal, timeoutMs, new Stop("timed_out", `took longer than ${timeoutMs / 1000} s`));
  const work = async (): Promise<void> => {
    for (const leftover of queue) {
      if (signal.aborted) return;
      try {
        deliver(await bury(leftover, options, limit.signal, signal));
      } catch (error) {
        if (signal.aborted) return;
        const { id } = leftover.record.stored;
        log.error(`cannot recover job ${id}, it is left to the next start`, { job: id, problem: describeError(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  const delivered = Promise.all(deliveries).then(() => undefined);
  return { dead: dead.length, undelivered: undelivered.length, delivered };
}

/** Clean up after one dead job, complete its trace and give it its verdict. Where `signal` fires, it stays as it is. */
export async function bury(
  leftover: LeftoverJob,
  options: Omit<RecoveryOptions, "outbox">,
  limit: AbortSignal,
  signal: AbortSignal,
): Promise<LeftoverJob> {
  const { log, journal } = options;
  const { record, acknowledged } = leftover;
  const { stored } = record;
  const fields = { job: stored.id, runner: stored.runner.id };
  const isSameBoot = stored.boot === journal.boot;
  const cleaned = await cleanUp(leftover, isSameBoot, options, limit).catch((error: unknown) => {
    signal.throwIfAborted();
    log.warn(`cannot clean up after job ${stored.id} (${stored.title})`, { ...fields, problem: describeError(error) });
    return { done: [], left: [`its clean-up failed: ${describeError(error)}`] };
  });
  signal.throwIfAborted();
  const seen = await options.lookAt?.(record).catch((error: unknown) => {
    log.warn(`cannot look at what job ${stored.id} was doing`, { ...fields, problem: describeError(error) });
    return null;
  });
  const circumstances = [
    isSameBoot ? "its process ended unexpectedly" : "the machine was restarted",
    `found at the next start, ${new Date().toISOString()}`,
    ...cleaned.done,
    ...cleaned.left,
    ...(seen ? [seen] : []),
  ].join("; ");
  const diedAt = await sealDeadTrace(leftover, circumstances, log);
  await record
    .finish({ state: "failed", reason: "runner_system_failure", exitCode: null, at: new Date().toISOString() })
    .catch((error: unknown) =>
      log.error("the end of a job cannot be kept on disk; it is reported all the same", {
        ...fields,
        problem: describeError(error),
      }),
    );
  log.info(
    `job ${stored.id} (${stored.title}) died with the runner and is reported as failed (${circumstances})`,
    fields,
  );
  return { record, notes: leftover.notes, acknowledged, diedAt };
}

async function cleanUp(
  { record, notes }: LeftoverJob,
  isSameBoot: boolean,
  { executorFor, attempts = 3, pauseMs = 1000 }: Omit<RecoveryOptions, "outbox">,
  limit: AbortSignal,
): Promise<Recovered> {
  const { stored } = record;
  const crash: Note = { kind: "crash", boot: stored.boot, sameBoot: isSameBoot };
  return await retry(
    { attempts, firstMs: pauseMs, retryable: () => true },
    async () => {
      const executor = await executorFor(stored);
      if (executor === null) throw new SystemFailure(`there is no executor "${stored.executor}"`);
      // One that does not heed its signal must not hold up the others.
      return await unlessAborted(executor.recover(stored.key, [...notes, crash], limit), limit);
    },
    limit,
  );
}
