import { describeError, SystemFailure } from "../../errors.ts";
import type { JobRecord } from "../../journal/contract.ts";
import type { Log } from "../../log.ts";
import type { Trace } from "../../trace/contract.ts";
import { textMask } from "../../trace/mask/text-mask.ts";
import { GITLAB_TOKEN_PREFIXES } from "../../trace/mask/token-prefixes.ts";
import { shownTrace } from "../../trace/stored.ts";
import { openTrace } from "../../trace/trace.ts";
import type { Outcome } from "../job.ts";
import { traceWishes } from "../plan/trace-wishes.ts";
import { secretsOf } from "../variables/secrets.ts";
import { acknowledgeJob } from "./acknowledge.ts";
import type { HandleDeps } from "./deps.ts";
import type { KeptJob } from "./durable/keep.ts";
import { type MaskedLog, maskedLog } from "./masked-log.ts";
import { conclude, concludeUnrun, refuse } from "./outcome/conclude.ts";
import { jobKeyOf, storedJobOf } from "./outcome/report.ts";
import type { HandledJob, HandleJob, MaskedJob } from "./received.ts";
import { endShipping, runShipped } from "./shipped.ts";

/** How long a piece of trace under way may take once the runner itself is told to stop. */
const LAST_PIECE_STOPPING_MS = 3000;

/**
 * A received job up to its last report: kept on disk, run with its trace shipped live, its result kept on disk before it
 * is sent for the first time. Whatever goes wrong on the way, the job gets exactly one verdict, and never `success`.
 */
export function createJobHandler(given: HandleDeps): HandleJob {
  return async (received) => {
    const { job, entry } = received;
    const secrets = secretsOf(job, [entry.token]);
    const mask = textMask(secrets.values, tokenPrefixesOf(received));
    using _ = given.liveMasks.hold(mask);
    const deps = { ...given, log: maskedLog(given.log.child({ job: job.id, runner: entry.id }), mask) };
    const startedAt = performance.now();
    const stored = storedJobOf(job, entry, jobKeyOf(job, entry.id), deps.journal.boot);
    let record: JobRecord;
    try {
      record = await deps.journal.accept(stored);
    } catch (error) {
      return refuse(received, stored, error, deps);
    }
    const kept = await keepLive({ ...received, secrets }, record, deps);
    try {
      const handled = await handleKept({ ...received, secrets }, record, kept, deps);
      logEnd(handled.outcome, performance.now() - startedAt, deps.log);
      if (handled.outcome === null) kept?.letGo();
      return handled;
    } finally {
      kept?.end();
    }
  };
}

/** `undefined`: the job ends with this process. */
async function keepLive(
  received: MaskedJob,
  { dir, stored }: JobRecord,
  { liveKey, identity, log }: HandleDeps,
): Promise<KeptJob | undefined> {
  const { job, entry, secrets } = received;
  const key = entry.durable ? await liveKey?.() : undefined;
  if (!key) return undefined;
  const { keepJob } = await import("./durable/keep.ts");
  return keepJob({
    ...{ dir, jobKey: stored.key, key, version: identity.version, boot: stored.boot },
    ...{ job, entry: entry.written, secrets: secrets.values, prefixes: tokenPrefixesOf(received), log },
  });
}

async function handleKept(
  received: MaskedJob,
  record: JobRecord,
  kept: KeptJob | undefined,
  deps: HandleDeps & { readonly log: MaskedLog },
): Promise<HandledJob> {
  const { coordinator, signal, concurrentId: room } = received;
  const { log, timing = {} } = deps;
  const { id, token, dialect } = received.job;
  const refusal = await acknowledgeJob({ job: { id, token, dialect }, coordinator, room, log, timing }, signal);
  if (refusal !== null) return await concludeUnrun(received, record, refusal, deps);
  const concurrentId = await room;
  let trace: Trace;
  try {
    trace = await openTraceOf(received, record, kept);
  } catch (cause) {
    return await concludeUnrun(received, record, new SystemFailure("the trace cannot be stored", { cause }), deps);
  }
  // The trace's mask gets to know further secrets of the job, and its patterns are compiled already.
  log.maskBy(trace.mask);
  using _ = deps.liveMasks.hold(trace.mask);
  const stopMeasuring = measure(trace, received.board.traced);
  const { outcome, destroyed, shipper } = await runShipped(
    { ...received, concurrentId, ...(kept === undefined ? {} : { kept }) },
    record,
    trace,
    deps,
  );
  if (outcome !== null)
    await trace.end().catch((error: unknown) => log.error("cannot end the trace", { problem: describeError(error) }));
  stopMeasuring();
  // It can be read until the coordinator has it, also where that takes days.
  received.board.offer({ trace: shownTrace(record.tracePath, trace.size) });
  const { lastPieceMs = 10_000 } = timing;
  // A runner that is told to stop needs what is left of its time for the report itself.
  const isEnding = signal.aborted || outcome === null;
  const patienceMs = isEnding ? Math.min(lastPieceMs, LAST_PIECE_STOPPING_MS) : lastPieceMs;
  const sent = await endShipping(shipper, trace, patienceMs, log);
  if (outcome === null) return { outcome, delivered: Promise.resolve("kept") };
  const handled = await conclude(record, outcome, sent, deps);
  // The report does not wait for the clean-up, the slot does.
  await destroyed;
  return handled;
}

/** What tokens begin with that are masked wherever they come from: those of the coordinator, and of GitLab's jobs all kinds. */
function tokenPrefixesOf({ job, entry }: Pick<MaskedJob, "job" | "entry">): readonly string[] {
  const own = job.features.tokenMaskPrefixes;
  return traceWishes(job, entry).masksTokens ? [...own, ...GITLAB_TOKEN_PREFIXES] : own;
}

function openTraceOf(received: MaskedJob, { tracePath, stored }: JobRecord, kept: KeptJob | undefined): Promise<Trace> {
  const { job, entry, secrets } = received;
  return openTrace({
    path: tracePath,
    secrets: secrets.values,
    secretPrefixes: tokenPrefixesOf(received),
    limitBytes: entry.outputLimitBytes,
    sections: job.features.traceSections,
    ...(kept === undefined ? {} : { keeper: kept.keeper }),
    ...(stored.stamped === true ? { stamps: true as const } : {}),
  });
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
function logEnd(outcome: Outcome | null, durationMs: number, log: Log): void {
  const fields = { duration_seconds: Math.round(durationMs) / 1000 };
  if (outcome === null) log.info("job left to the next process of the runner", fields);
  else if (outcome.result === "success") log.info("job succeeded", fields);
  else if (outcome.result === "canceled") log.info("job canceled", fields);
  else {
    const { reason, exitCode } = outcome;
    const isOurs = reason !== "script_failure" && reason !== "job_execution_timeout";
    const more = { ...fields, reason, ...(exitCode === undefined ? {} : { exit_code: exitCode }) };
    if (isOurs) log.warn("job failed", { ...more, problem: outcome.message });
    else log.info("job failed", more);
  }
}
