import { randomBytes } from "node:crypto";
import { describeError, ScriptFailure, Stop, SystemFailure } from "../errors.ts";
import type { JobRecord, Journal, Outbox, SentTrace } from "../journal/contract.ts";
import type { Log } from "../log.ts";
import type { ShellName, ShellWriter } from "../shell.ts";
import { deadline, never } from "../time.ts";
import type { Trace } from "../trace/contract.ts";
import { type Shipper, type ShipTiming, shipTrace } from "../trace/ship.ts";
import { openTrace } from "../trace/trace.ts";
import type { OpenCaches } from "../transfer/open-caches.ts";
import { type AcknowledgeTiming, acknowledgeJob } from "./acknowledge.ts";
import { formatDuration } from "./duration.ts";
import type { Job, Outcome } from "./job.ts";
import { isUnexpected, outcomeOf, verdictLine } from "./outcome.ts";
import type { HandledJob, ReceivedJob } from "./received.ts";
import { keepRefused, keepReport, keepVerdict, logUnexpected, refuse, settled } from "./refuse.ts";
import { storedJobOf } from "./report.ts";
import { type RunJobRequest, runJob } from "./run.ts";
import { type JobSecrets, secretsOf } from "./secrets.ts";
import { joinSignals } from "./signals.ts";
import type { RunnerIdentity } from "./variables.ts";

export interface HandleDeps {
  readonly journal: Pick<Journal, "accept" | "boot">;
  readonly outbox: Pick<Outbox, "deliver" | "answer">;
  readonly identity: RunnerIdentity;
  readonly findWriter: (shell: ShellName) => ShellWriter | undefined;
  readonly log: Log;
  readonly openCaches: OpenCaches;
  /** Private to the runner, for archives under way. */
  readonly scratchDir: string;
  /** What disks must still have free after a transfer. */
  readonly minFreeBytes: () => number;
  readonly timing?: HandleTiming;
}

export interface HandleTiming
  extends Pick<RunJobRequest, "preparePauseMs" | "attemptPauseMs" | "destroyTimeoutMs">,
    AcknowledgeTiming {
  readonly ship?: ShipTiming;
  /** How long a piece of trace that is under way at the job's end may take. By default 10 s. */
  readonly lastPieceMs?: number;
}

/** How long a piece of trace under way may take once the runner itself is told to stop. */
const LAST_PIECE_STOPPING_MS = 3000;

/**
 * A received job up to its last report: kept on disk, run with its trace shipped live, its result kept on disk before it
 * is sent for the first time. Whatever goes wrong on the way, the job gets exactly one verdict, and never `success`.
 */
export function createJobHandler(deps: HandleDeps): (received: ReceivedJob) => Promise<HandledJob> {
  return async (received) => {
    const { job, entry } = received;
    const log = deps.log.child({ job: job.id, runner: entry.id });
    const startedAt = performance.now();
    const stored = storedJobOf(job, entry, jobKeyOf(job, entry.id), deps.journal.boot);
    let record: JobRecord;
    try {
      record = await deps.journal.accept(stored);
    } catch (error) {
      return refuse(received, stored, error, deps.outbox, log);
    }
    const handled = await handleKept(received, record, deps, log);
    logEnd(handled.outcome, performance.now() - startedAt, log);
    return handled;
  };
}

async function handleKept(received: ReceivedJob, record: JobRecord, deps: HandleDeps, log: Log): Promise<HandledJob> {
  const { job, entry, meter, coordinator, signal, concurrentId: room } = received;
  const { id, token, dialect } = job;
  const refusal = await acknowledgeJob(
    { job: { id, token, dialect }, coordinator, room, log, timing: deps.timing ?? {} },
    signal,
  );
  if (refusal !== null) return await keepRefused(received, refusal, record, deps.outbox, log);
  const concurrentId = await room;
  let trace: Trace;
  const secrets = secretsOf(job, [entry.token]);
  try {
    trace = await openTrace({
      path: record.tracePath,
      secrets: secrets.values,
      secretPrefixes: job.features.tokenMaskPrefixes,
      limitBytes: entry.outputLimitBytes,
      sections: job.features.traceSections,
    });
  } catch (error) {
    const outcome = outcomeOf(new SystemFailure("the trace cannot be stored", { cause: error }), never);
    meter.moved({ at: "finished", outcome });
    await keepVerdict(record.tracePath, outcome);
    await keepReport(record, outcome, log);
    return { outcome, delivered: settled(deps.outbox.deliver(record, { sent: 0, offered: 0, gone: false }), log) };
  }
  const stopMeasuring = measure(trace, meter.traced);
  const shown = { ...received, concurrentId, secrets };
  const { outcome, destroyed, shipper } = await runShipped(shown, record, trace, deps, log);
  await trace.end().catch((error: unknown) => log.error(`cannot end the trace: ${describeError(error)}`));
  stopMeasuring();
  const lastPieceMs = deps.timing?.lastPieceMs ?? 10_000;
  // A runner that is told to stop needs what is left of its time for the report itself.
  const patienceMs = received.signal.aborted ? Math.min(lastPieceMs, LAST_PIECE_STOPPING_MS) : lastPieceMs;
  const sent = endShipping(shipper, trace, patienceMs, log);
  await keepReport(record, outcome, log);
  const delivered = settled(deps.outbox.deliver(record, sent), log);
  // The report does not wait for the clean-up, the slot does.
  await destroyed;
  return { outcome, delivered };
}

interface Shipped {
  readonly outcome: Outcome;
  readonly destroyed: Promise<void>;
  readonly shipper: Shipper;
}

/** Run the job while its trace is on its way. Rejects never. */
async function runShipped(
  {
    job,
    entry,
    executor,
    coordinator,
    concurrentId,
    signal,
    meter,
    secrets,
  }: ReceivedJob & { readonly concurrentId: number; readonly secrets: JobSecrets },
  record: JobRecord,
  trace: Trace,
  { identity, findWriter, openCaches, scratchDir, minFreeBytes, timing = {} }: HandleDeps,
  log: Log,
): Promise<Shipped> {
  const { ship, preparePauseMs, attemptPauseMs, destroyTimeoutMs } = timing;
  const canceling = new AbortController();
  const over = new AbortController();
  const shipper = shipTrace({
    trace,
    coordinator,
    job: { id: job.id, token: job.token, dialect: job.dialect },
    onStatus(status) {
      log.info(status === "gone" ? "the job is over at its coordinator" : "the job is canceled at its coordinator");
      if (status === "gone") over.abort(new Stop("canceled", "by the coordinator"));
      else canceling.abort(new Stop("canceling", "by the coordinator"));
    },
    onAcknowledged: record.acknowledged,
    log,
    ...(ship === undefined ? {} : { timing: ship }),
  });
  using halt = joinSignals([{ signal }, { signal: over.signal }]);
  const tooLong = new Stop("timed_out", `took longer than ${formatDuration(job.timeoutMs)}`);
  using limit = deadline(canceling.signal, job.timeoutMs, tooLong);
  try {
    halt.signal.throwIfAborted();
    if (job.problem !== null) {
      for (const warning of job.warnings) trace.print(warning, "warning");
      throw new SystemFailure(job.problem);
    }
    for (const warning of secrets.warnings) trace.print(warning, "warning");
    if (secrets.problem !== null) throw new ScriptFailure(secrets.problem);
    const ran = await runJob(
      {
        job,
        jobKey: record.stored.key,
        runner: entry,
        identity,
        executor,
        findWriter,
        trace,
        log,
        transfers: {
          coordinator,
          openCaches: () => openCaches(entry, job.timeoutMs),
          scratchDir,
          minFreeBytes,
        },
        concurrentId,
        remember: record.remember,
        halt: halt.signal,
        onState: meter.moved,
        ...(preparePauseMs === undefined ? {} : { preparePauseMs }),
        ...(attemptPauseMs === undefined ? {} : { attemptPauseMs }),
        ...(destroyTimeoutMs === undefined ? {} : { destroyTimeoutMs }),
      },
      limit.signal,
    );
    return { ...ran, shipper };
  } catch (error) {
    if (isUnexpected(error)) logUnexpected(error, log);
    const outcome = outcomeOf(error, halt.signal);
    const { text, tone } = verdictLine(outcome);
    trace.print(text, tone);
    meter.moved({ at: "finished", outcome });
    return { outcome, destroyed: Promise.resolve(), shipper };
  }
}

/** Nothing of the live trace is on its way any more when this resolves; its file is closed. */
async function endShipping(shipper: Shipper, trace: Trace, lastPieceMs: number, log: Log): Promise<SentTrace> {
  using limit = deadline(never, lastPieceMs, new Stop("timed_out", "the last piece of the trace takes too long"));
  const sent = await shipper.finish(limit.signal);
  await trace.close().catch((error: unknown) => log.warn(`cannot close the trace: ${describeError(error)}`));
  return sent;
}

/** `[a-z0-9-]`, ≤ 63 characters: for labels, names and process marks. */
function jobKeyOf({ id }: Job, runnerId: string): string {
  const readable = id
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "")
    .slice(0, 24);
  return [runnerId, readable, randomBytes(6).toString("hex")].filter((part) => part !== "").join("-");
}

function measure(trace: Trace, traced: (bytes: number) => void): () => void {
  let seen = 0;
  const look = (): void => {
    traced(trace.size - seen);
    seen = trace.size;
  };
  const stop = trace.watch(look);
  return () => {
    look();
    stop();
  };
}

/** What a job made of it is in its trace; the runner's log has what its operator can do something about. */
function logEnd(outcome: Outcome, durationMs: number, log: Log): void {
  const fields = { duration_seconds: Math.round(durationMs) / 1000 };
  if (outcome.result === "success") log.info("job succeeded", fields);
  else if (outcome.result === "canceled") log.info("job canceled", fields);
  else {
    const { reason, exitCode } = outcome;
    const isOurs = reason !== "script_failure" && reason !== "job_execution_timeout";
    const more = { ...fields, reason, ...(exitCode === undefined ? {} : { exit_code: exitCode }) };
    if (isOurs) log.warn("job failed", { ...more, problem: outcome.message });
    else log.info("job failed", more);
  }
}
