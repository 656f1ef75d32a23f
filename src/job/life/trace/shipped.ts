import { describeError, Stop } from "../../../errors.ts";
import type { JobRecord, SentTrace } from "../../../journal/contract.ts";
import type { Log } from "../../../log.ts";
import { deadline, never } from "../../../time.ts";
import type { Trace } from "../../../trace/contract.ts";
import { type Shipper, shipTrace } from "../../../trace/ship.ts";
import { formatDuration } from "../../plan/duration.ts";
import type { HandleDeps } from "../deps.ts";
import type { KeptJob } from "../durable/keep.ts";
import type { MaskedJob } from "../received.ts";
import type { FoundRun } from "../request.ts";
import { type RanJob, runJob } from "../run.ts";
import { joinSignals } from "../signals.ts";

/** A job with room to run. */
export type StartedJob = MaskedJob & {
  readonly concurrentId: number;
  readonly kept?: KeptJob;
  readonly begun?: FoundRun;
};

export interface ShippedJob extends RanJob {
  readonly shipper: Shipper;
}

/** Run the job while its trace is on its way, and while its coordinator or its runner's operator may cancel it. */
export async function runShipped(
  received: StartedJob,
  record: JobRecord,
  trace: Trace,
  deps: HandleDeps,
): Promise<ShippedJob> {
  const { job, entry, executor, coordinator, concurrentId, reservation, session, signal, handOver } = received;
  const { board, secrets, kept, begun, found } = received;
  const {
    identity,
    findWriter,
    openCaches,
    resolveSecrets,
    keptCaches,
    scratchDir,
    minFreeBytes,
    log,
    timing = {},
  } = deps;
  const { ship, preparePauseMs, attemptPauseMs, secretsPauseMs, destroyTimeoutMs } = timing;
  const { debugTrace } = record.stored;
  const canceling = new AbortController();
  const over = new AbortController();
  const before = new AbortController();
  for (const { why, message } of begun?.progress.stops ?? []) {
    const stop = new Stop(why, message);
    if (why === "canceling") canceling.abort(stop);
    else if (why === "canceled") over.abort(stop);
    else if (why === "shutting_down") before.abort(stop);
  }
  board.offer({
    trace,
    cancel: () => canceling.abort(new Stop("canceling", "by the operator of this runner")),
  });
  const shipper = shipTrace({
    trace,
    coordinator,
    job: {
      ...{ id: job.id, token: job.token, dialect: job.dialect },
      ...(debugTrace === undefined ? {} : { debugTrace }),
    },
    onStatus(status) {
      log.info(status === "gone" ? "the job is over at its coordinator" : "the job is canceled at its coordinator");
      if (status === "gone") over.abort(new Stop("canceled", "by the coordinator"));
      else canceling.abort(new Stop("canceling", "by the coordinator"));
    },
    onAcknowledged: record.acknowledged,
    ...(found === undefined ? {} : { arrived: found.leftover.acknowledged }),
    log,
    ...(ship === undefined ? {} : { timing: ship }),
  });
  using halt = joinSignals([{ signal }, { signal: over.signal }, { signal: before.signal }]);
  const tooLong = new Stop("timed_out", `took longer than ${formatDuration(job.timeoutMs)}`);
  const leftMs = begun?.progress.leftMs ?? null;
  using limit = deadline(canceling.signal, leftMs ?? job.timeoutMs, tooLong);
  if (leftMs === null) kept?.limit(job.timeoutMs);
  using _ = noteStops(kept, [limit.signal, halt.signal]);
  const ran = await runJob(
    {
      job,
      jobKey: record.stored.key,
      runner: entry,
      identity,
      executor,
      secrets,
      findWriter,
      trace,
      log,
      transfers: {
        coordinator,
        openCaches: () => openCaches(entry, job.timeoutMs),
        keptCaches,
        scratchDir,
        minFreeBytes,
      },
      resolveSecrets: (wanted, stop) => resolveSecrets(entry, wanted, stop),
      concurrentId,
      ...(reservation === undefined ? {} : { reservation }),
      ...(session === undefined ? {} : { terminal: { session: session.claim(), timeoutMs: deps.sessionTimeoutMs } }),
      remember: record.remember,
      ...(kept === undefined ? {} : { kept }),
      ...(begun === undefined ? {} : { found: begun }),
      halt: halt.signal,
      ...(handOver === undefined ? {} : { handOver }),
      onOutlives: board.outlives,
      onProgress: board.moved,
      onPlace: (usage) => board.offer({ usage }),
      ...(preparePauseMs === undefined ? {} : { preparePauseMs }),
      ...(attemptPauseMs === undefined ? {} : { attemptPauseMs }),
      ...(secretsPauseMs === undefined ? {} : { secretsPauseMs }),
      ...(destroyTimeoutMs === undefined ? {} : { destroyTimeoutMs }),
    },
    limit.signal,
  );
  return { ...ran, shipper };
}

/** That the job is to stop is kept, and why, before it is. */
function noteStops(kept: KeptJob | undefined, signals: readonly AbortSignal[]): Disposable {
  const listeners = signals.map((signal) => ({
    signal,
    listener: (): void => {
      if (!(signal.reason instanceof Stop)) return;
      const { why, message } = signal.reason;
      if (why === "handing_over") return;
      kept?.note({ kind: "stopping", why, message });
    },
  }));
  for (const { signal, listener } of listeners) signal.addEventListener("abort", listener, { once: true });
  return {
    [Symbol.dispose]: () => {
      for (const { signal, listener } of listeners) signal.removeEventListener("abort", listener);
    },
  };
}

/** Nothing of the live trace is on its way any more when this resolves; its file is closed. */
export async function endShipping(shipper: Shipper, trace: Trace, lastPieceMs: number, log: Log): Promise<SentTrace> {
  using limit = deadline(never, lastPieceMs, new Stop("timed_out", "the last piece of the trace takes too long"));
  const sent = await shipper.finish(limit.signal);
  await trace.close().catch((error: unknown) => log.warn("cannot close the trace", { problem: describeError(error) }));
  return { ...sent, whole: { size: trace.size, crc32: trace.crc32 } };
}
