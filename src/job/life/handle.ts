import { describeError, handsOver, SystemFailure } from "../../errors.ts";
import type { JobRecord } from "../../journal/contract.ts";
import type { Log } from "../../log.ts";
import { never } from "../../time.ts";
import type { Trace, TraceResume } from "../../trace/contract.ts";
import { textMask } from "../../trace/mask/text-mask.ts";
import { GITLAB_TOKEN_PREFIXES } from "../../trace/mask/token-prefixes.ts";
import { shownTrace } from "../../trace/stored.ts";
import { openTrace } from "../../trace/trace.ts";
import type { Outcome } from "../job.ts";
import { traceWishes } from "../plan/trace-wishes.ts";
import { secretsOf } from "../variables/secrets.ts";
import { acknowledgeJob } from "./acknowledge.ts";
import type { HandleDeps } from "./deps.ts";
import { ageOf } from "./durable/found-age.ts";
import type { KeptJob } from "./durable/keep.ts";
import type { WholeLife } from "./durable/look.ts";
import { withoutWords } from "./life.ts";
import { conclude, concludeUnrun, refuse } from "./outcome/conclude.ts";
import { jobKeyOf, storedJobOf } from "./outcome/report.ts";
import type { FoundJob, HandledJob, HandleJob, MaskedJob, ReceivedJob } from "./received.ts";
import type { FoundRun } from "./request.ts";
import { joinSignals } from "./signals.ts";
import { type MaskedLog, maskedLog } from "./trace/masked-log.ts";
import { endShipping, runShipped } from "./trace/shipped.ts";

/** How long a piece of trace under way may take once the runner itself is told to stop. */
const LAST_PIECE_STOPPING_MS = 3000;

/**
 * A received job up to its last report: kept on disk, run with its trace shipped live, its result kept on disk before it
 * is sent for the first time. Whatever goes wrong on the way, the job gets exactly one verdict, and never `success`.
 */
export function createJobHandler(given: HandleDeps): HandleJob {
  return async (received) => {
    const { job, entry, found } = received;
    const own = secretsOf(job, [entry.token]);
    const secrets = { ...own, values: [...new Set([...own.values, ...(found?.life.secrets ?? [])])] };
    const mask = textMask(secrets.values, tokenPrefixesOf(received));
    using _ = given.liveMasks.hold(mask);
    const deps = { ...given, log: maskedLog(given.log.child({ job: job.id, runner: entry.id }), mask) };
    const startedAt = performance.now();
    if (found !== undefined) return await handleFound({ ...received, secrets }, found, deps);
    const stored = storedJobOf(job, entry, jobKeyOf(job, entry.id), deps.journal.boot);
    let record: JobRecord;
    const life: { kept?: KeptJob | undefined } = {};
    try {
      record = await deps.journal.accept(stored, async (dir) => {
        life.kept = await keepLive({ ...received, secrets }, { dir, stored }, deps);
      });
    } catch (error) {
      life.kept?.end();
      return refuse(received, stored, error, deps);
    }
    const { kept } = life;
    try {
      const handled = await handleKept({ ...received, secrets }, record, { kept }, deps);
      logEnd(handled.outcome, performance.now() - startedAt, deps.log);
      return handled;
    } finally {
      kept?.end();
    }
  };
}

/** A job that an earlier process has begun: on it goes, or to its grave. */
async function handleFound(
  received: MaskedJob,
  found: FoundJob,
  deps: HandleDeps & { readonly log: MaskedLog },
): Promise<HandledJob> {
  const { log } = deps;
  const { board, handOver, signal } = received;
  const { record } = found.leftover;
  const startedAt = performance.now() - ageOf(found);
  const { takeUp, timesAdopted } = await import("./durable/take-up.ts");
  // Until it is taken up it is as it was left: whoever comes next finds it so.
  if (hasPlace(found.life)) board.outlives();
  using stop = joinSignals([{ signal }, ...(handOver === undefined ? [] : [{ signal: handOver }])]);
  const taken = await takeUp(received, found, log, stop.signal);
  if ("lost" in taken) {
    if (handsOver(stop.signal)) return { outcome: null, delivered: Promise.resolve("kept") };
    board.adopted(null);
    return await bury(received, found, taken.lost);
  }
  const kept = await keepLive(received, record, deps);
  const times = timesAdopted(found.life) + 1;
  board.adopted(times);
  log.info("a job of an earlier process goes on", { away_seconds: taken.run.progress.awayMs / 1000, adoptions: times });
  try {
    const handled = await handleKept(received, record, { kept, begun: taken.run }, deps);
    logEnd(handled.outcome, performance.now() - startedAt, log);
    return handled;
  } finally {
    kept?.end();
  }
}

/** It has surroundings that another process finds again. */
function hasPlace({ entries }: WholeLife): boolean {
  const prepared = entries.findLast(({ kind }) => kind === "prepared");
  return prepared?.kind === "prepared" && prepared.handle !== null;
}

async function bury({ board }: ReceivedJob, found: FoundJob, why: string): Promise<HandledJob> {
  const { delivered } = await found.bury(why);
  const outcome: Outcome = { result: "failed", reason: "runner_system_failure", message: why };
  board.moved({ at: "finished", outcome: withoutWords(outcome) });
  return { outcome, delivered };
}

/** `undefined`: the job ends with this process. */
async function keepLive(
  received: MaskedJob,
  { dir, stored }: Pick<JobRecord, "dir" | "stored">,
  { liveKey, identity, log }: HandleDeps,
): Promise<KeptJob | undefined> {
  const { job, entry, secrets, found } = received;
  const key = entry.durable ? await liveKey?.() : undefined;
  if (!key) return undefined;
  const { keepJob } = await import("./durable/keep.ts");
  return keepJob(
    {
      ...{ dir, jobKey: stored.key, key, version: identity.version, boot: stored.boot },
      ...{ job, entry: entry.written, secrets: secrets.values, prefixes: tokenPrefixesOf(received), log },
    },
    found?.life,
  );
}

/** What is kept of a job for the next process, and what an earlier one has begun of it. */
interface Living {
  readonly kept: KeptJob | undefined;
  readonly begun?: FoundRun;
}

async function handleKept(
  received: MaskedJob,
  record: JobRecord,
  { kept, begun }: Living,
  deps: HandleDeps & { readonly log: MaskedLog },
): Promise<HandledJob> {
  const { coordinator, signal, concurrentId: room, found } = received;
  const { log, timing = {} } = deps;
  const { id, token, dialect } = received.job;
  // Of one whose time runs its coordinator has heard.
  if (begun === undefined || begun.progress.leftMs === null) {
    const refusal = await Promise.race([
      acknowledgeJob({ job: { id, token, dialect }, coordinator, room, log, timing }, signal),
      leftWaiting(received, kept),
    ]);
    if (refusal === "left") return leave(kept);
    if (refusal !== null) return await concludeUnrun(received, record, refusal, deps);
  }
  const concurrentId = await room;
  let trace: Trace;
  try {
    trace = await openTraceOf(received, record, kept);
  } catch (cause) {
    if (begun !== undefined && found !== undefined) {
      await begun.environment?.destroy(never).catch(() => {});
      return await bury(received, found, describeError(cause));
    }
    return await concludeUnrun(received, record, new SystemFailure("the trace cannot be stored", { cause }), deps);
  }
  // The trace's mask gets to know further secrets of the job, and its patterns are compiled already.
  log.maskBy(trace.mask);
  using _ = deps.liveMasks.hold(trace.mask);
  const stopMeasuring = measure(trace, received.board.traced);
  const { outcome, destroyed, shipper } = await runShipped(
    { ...received, concurrentId, ...(kept === undefined ? {} : { kept }), ...(begun === undefined ? {} : { begun }) },
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
  if (outcome === null) return leave(kept);
  const handled = await conclude(record, outcome, sent, deps);
  // The report does not wait for the clean-up, the slot does.
  await destroyed;
  return handled;
}

/** The runner's next process goes on with the job. */
function leave(kept: KeptJob | undefined): HandledJob {
  kept?.letGo();
  return { outcome: null, delivered: Promise.resolve("kept") };
}

/** Resolves when the runner hands over while the job still waits for its room: nothing of it has begun. */
async function leftWaiting(
  { concurrentId: room, handOver, board }: ReceivedJob,
  kept: KeptJob | undefined,
): Promise<"left"> {
  const { promise, resolve } = Promise.withResolvers<"left">();
  if (typeof room === "number" || handOver === undefined || kept?.whole !== true) return await promise;
  board.outlives();
  const onHandOver = (): void => resolve("left");
  if (handOver.aborted) onHandOver();
  else handOver.addEventListener("abort", onHandOver, { once: true });
  void room.then(() => handOver.removeEventListener("abort", onHandOver));
  return await promise;
}

/**
 * What tokens begin with that are masked wherever they come from: those of the coordinator, and of GitLab's jobs all kinds. A job
 * that an earlier process has begun keeps those of then: another version may know others.
 */
function tokenPrefixesOf({ job, entry, found }: Pick<ReceivedJob, "job" | "entry" | "found">): readonly string[] {
  if (found !== undefined) return found.life.prefixes;
  const own = job.features.tokenMaskPrefixes;
  return traceWishes(job, entry).masksTokens ? [...own, ...GITLAB_TOKEN_PREFIXES] : own;
}

function openTraceOf(received: MaskedJob, { tracePath, stored }: JobRecord, kept: KeptJob | undefined): Promise<Trace> {
  const { job, entry, secrets, found } = received;
  const resume = found === undefined ? undefined : resumeOf(found.life);
  return openTrace({
    path: tracePath,
    secrets: secrets.values,
    secretPrefixes: tokenPrefixesOf(received),
    limitBytes: entry.outputLimitBytes,
    sections: job.features.traceSections,
    ...(kept === undefined ? {} : { keeper: kept.keeper }),
    ...(stored.stamped === true ? { stamps: true as const } : {}),
    ...(resume === undefined ? {} : { resume }),
  });
}

function resumeOf({ checkpoint, entries }: WholeLife): TraceResume {
  const lines = entries.flatMap((one) => (one.kind === "own" ? { at: one.at, bytes: Buffer.from(one.text) } : []));
  return { position: checkpoint.trace, lines };
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
