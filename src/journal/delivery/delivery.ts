import {
  type AnswerKind,
  type Coordinator,
  type JobUpdate,
  type StoredTrace,
  troubleOf,
} from "../../coordinator/contract.ts";
import { describeError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { formatCrc32 } from "../../trace/crc32.ts";
import { stampLines } from "../../trace/stamp/stamper.ts";
import type { FinalReport, JobRecord, SentTrace } from "../contract.ts";
import { answersOtherwise, askAsWaiting } from "./ask.ts";
import { type Attempt, type Deliver, endings, trouble } from "./attempt.ts";
import { nextStep, noticeLine, shortenedTrace } from "./shorten.ts";
import { type TraceSource, traceOf } from "./trace-source.ts";

/** What delivering needs of a job's record. */
export type Deliverable = Pick<JobRecord, "stored" | "report" | "acknowledged" | "remove">;

export interface DeliveryOptions {
  readonly record: Deliverable;
  readonly report: FinalReport;
  readonly trace: TraceSource;
  readonly coordinator: Coordinator;
  /** Bytes that the coordinator has. */
  readonly from: number;
  /** End of what was ever sent to it: it cannot have more. Infinity where that is not known. */
  readonly offered: number;
  /** It said that the job is over. */
  readonly gone: boolean;
  /** Its bytes and ours are known to differ: no checksum is sent. */
  readonly unverified: boolean;
  readonly log: Log;
  /** How long a trace must have been refused before it is shortened. */
  readonly suspectMs: number;
  /** The trace as it was written, where this process wrote it. */
  readonly whole?: SentTrace["whole"];
}

const PIECE_BYTES = 1024 * 1024;
const SMALL_PIECE_BYTES = 64 * 1024;
/** Refusals of a trace (5xx and the like) before it is looked at more closely; without any answer it takes more. */
const SUSPECT_REFUSALS = 5;
const SUSPECT_SILENCES = 10;
/** Answers (416) that want other bytes than those that follow: so many are obeyed at once, and so many of one result in all. */
const DISAGREEMENTS_AT_ONCE = 5;
export const MOST_DISAGREEMENTS = 15;
/** Times that a coordinator may find the trace different and have it again from its start. */
const MOST_RESENDS = 2;
/** Attempts that fail because the spool cannot be read before the state is sent without it. */
const MOST_UNREADABLE = 2;

export function createDelivery(options: DeliveryOptions): Deliver {
  const { record, report, trace, coordinator, gone, log, suspectMs } = options;
  const { stored } = record;
  const { id, token, dialect, debugTrace } = stored;
  const credentials = { id, token, dialect, ...(debugTrace === undefined ? {} : { debugTrace }) };
  const final: JobUpdate = {
    state: report.state,
    knownReasons: stored.knownReasons,
    ...(report.reason === null ? {} : { reason: report.reason }),
    ...(report.exitCode === null ? {} : { exitCode: report.exitCode }),
  };
  /** Bytes kept of head and tail; Infinity: the whole trace; `null`: the state goes alone. */
  let keepBytes: number | null = Number.POSITIVE_INFINITY;
  let pieceBytes = PIECE_BYTES;
  let { from: sent, offered } = options;
  /** What it has of a trace that was given up, as long as the trace does not say so itself. */
  let heldTo: number | null = null;
  let disagreements = 0;
  let unverified = options.unverified;
  let resends = 0;
  let refusals = 0;
  let suspectSince = 0;
  let unreadable = 0;

  /** GitLab keeps what was patched: the rest of the trace, then the state with a checksum over the whole. */
  async function deliverByPatches(signal: AbortSignal): Promise<Attempt> {
    if (gone) return { kind: "settled", result: "refused" };
    const size = (await trace.size()) ?? 0;
    const stop = keepBytes === null ? null : await sendRest(size, signal);
    if (stop !== null) return stop;
    if (heldTo !== null) await sayWhatIsMissing(heldTo, size, signal);
    const check = unverified || size === 0 ? {} : { checksum: formatCrc32(await crc32Of(size)), bytes: size };
    const answer = await coordinator.updateJob(credentials, { ...final, ...check }, signal).catch(async (error) => {
      if (troubleOf(error)?.kind === "invalid" && (await askAsWaiting(coordinator, credentials, signal)) === "waits")
        return null;
      throw error;
    });
    if (answer === null) {
      log.info(`${coordinator.origin} hands job ${id} out again, as it never heard that it was taken`, { job: id });
      return { kind: "settled", result: "refused" };
    }
    if (answer.kind === "done") return { kind: "settled", result: "delivered" };
    if (answer.kind === "again") return { kind: "later", afterMs: answer.afterMs };
    if (answer.kind === "too_large")
      return trouble(`${coordinator.origin} finds the final report too large`, "too_large");
    sent = 0;
    if (++resends > MOST_RESENDS) {
      // There is nothing in a state alone that it could find different.
      if (keepBytes === null) return wantsItAgain();
      unverified = true;
      keepBytes = null;
    }
    return { kind: "later", afterMs: 0 };
  }

  /** Of what is on disk, once the coordinator has found something else than was written. */
  async function crc32Of(size: number): Promise<number> {
    return options.whole?.size === size && resends === 0 ? options.whole.crc32 : await trace.crc32(size);
  }

  /** The trace from `sent` on. @returns why the state cannot follow now; `null`: it can */
  async function sendRest(size: number, signal: AbortSignal): Promise<Attempt | null> {
    // One piece is under way at a time: all of them may use the same memory.
    let block = Buffer.alloc(0);
    if (sent > size) unverified = true;
    sent = Math.min(sent, size);
    while (sent < size) {
      const length = Math.min(pieceBytes, size - sent);
      // Sent back to an earlier byte, there is more left than at first.
      if (block.length < length) block = Buffer.allocUnsafeSlow(length);
      const bytes = await trace.read(sent, length, block);
      if (bytes.length === 0) return null;
      const end = sent + bytes.length;
      offered = Math.max(offered, end);
      const answer = await coordinator.appendTrace(credentials, { from: sent, bytes }, signal);
      if (answer.status === "gone") return { kind: "settled", result: "refused" };
      refusals = 0; // it answered, and not to refuse
      if (answer.next === end) {
        sent = end;
        record.acknowledged(sent);
        continue;
      }
      const place = sent;
      if (answer.next <= offered) {
        // More than there is here: what it has is not what the spool has.
        if (answer.next > size) unverified = true;
        sent = Math.max(0, Math.min(answer.next, size));
        record.acknowledged(sent);
      }
      disagreements++;
      if (disagreements >= MOST_DISAGREEMENTS) {
        giveUpTrace();
        const what = `the trace of job ${id}`;
        log.warn(
          `${coordinator.origin} has wanted other bytes of ${what} ${disagreements} times; it has ${sent} of ${size} bytes, and the job's state goes without the rest`,
          { job: id },
        );
        return null;
      }
      if (disagreements % DISAGREEMENTS_AT_ONCE === 0) {
        return trouble(`${coordinator.origin} does not take the trace at ${place}`, "mismatch");
      }
    }
    return null;
  }

  function giveUpTrace(): void {
    keepBytes = null;
    unverified = true;
    heldTo = sent;
  }

  /** One try: a coordinator that takes no other byte takes this line or not. */
  async function sayWhatIsMissing(from: number, size: number, signal: AbortSignal): Promise<void> {
    heldTo = null;
    if (from >= size) return;
    const line = noticeLine(
      `WARNING: the coordinator did not take all of this job's output: it has ${from} of ${size} bytes, the rest is missing here`,
    );
    const stamped = stored.stamped === true;
    const afterBreak = from === 0 || (stamped && (await trace.read(from - 1, 1))[0] === 0x0a);
    const bytes = Buffer.concat([Buffer.from(afterBreak ? "" : "\n"), stamped ? stampLines(line) : line]);
    await coordinator.appendTrace(credentials, { from, bytes }, signal).catch((error: unknown) => {
      log.debug(`cannot say in the trace of job ${id} what is missing`, { job: id, problem: describeError(error) });
    });
    signal.throwIfAborted();
  }

  /** AlloyCI keeps the trace that comes with the final state, and nothing else. */
  async function deliverAtOnce(signal: AbortSignal): Promise<Attempt> {
    for (;;) {
      const offer = await chosenTrace();
      const update = offer === null ? final : { ...final, trace: offer };
      const answer = await coordinator.updateJob(credentials, update, signal);
      if (answer.kind === "done") return { kind: "settled", result: "delivered" };
      if (answer.kind === "again") return { kind: "later", afterMs: answer.afterMs };
      if (answer.kind === "resend") return wantsItAgain();
      if (offer === null) return trouble(`${coordinator.origin} finds the final report too large`, "too_large");
      await shorten("it is too large");
    }
  }

  function wantsItAgain(): Attempt {
    return trouble(`${coordinator.origin} wants the trace again, whatever it is sent`, "mismatch");
  }

  async function chosenTrace(): Promise<StoredTrace | null> {
    if (keepBytes === null) return null;
    const size = await trace.size();
    if (size === null || unreadable > MOST_UNREADABLE) {
      return traceOf(noticeLine("WARNING: the output of this job was lost on the runner"));
    }
    return keepBytes < size ? await shortenedTrace(trace, size, keepBytes) : trace.whole(size);
  }

  async function shorten(why: string): Promise<void> {
    const size = (await trace.size()) ?? 0;
    refusals = 0;
    unverified = true;
    if (dialect === "gitlab") {
      if (pieceBytes > SMALL_PIECE_BYTES && size - sent > SMALL_PIECE_BYTES) pieceBytes = SMALL_PIECE_BYTES;
      else giveUpTrace();
    } else if (keepBytes !== null) keepBytes = nextStep(size, keepBytes);
    const what = `the trace of job ${id} (${size} bytes)`;
    log.warn(`${coordinator.origin} does not take ${what}: ${why}; it is sent shortened`, { job: id });
  }

  /**
   * A call with (a part of) the trace in it failed: is the trace to blame? Only if that call alone fails, again and again,
   * while the coordinator answers others. @returns what came of sending it shortened; `null`: it is not to blame (yet)
   */
  async function blamesTrace(
    why: AnswerKind,
    message: string,
    again: Deliver,
    signal: AbortSignal,
  ): Promise<Attempt | null> {
    if (keepBytes === null || (dialect === "gitlab" && sent >= ((await trace.size()) ?? 0))) return null;
    const now = performance.now();
    if (refusals++ === 0) suspectSince = now;
    if (why === "too_large") {
      await shorten("it is too large");
      return await again(signal);
    }
    const first = keepBytes === Number.POSITIVE_INFINITY && pieceBytes === PIECE_BYTES;
    const needed = why === "silent" ? SUSPECT_SILENCES : first ? SUSPECT_REFUSALS : 2;
    if (refusals < needed || (first && now - suspectSince < suspectMs)) return null;
    refusals = needed - 2;
    if (!(await answersOtherwise(coordinator, credentials, sent, signal))) return null;
    // It may have come back to life this very moment: the whole trace once more before it is cut.
    const attempt = await guarded(signal);
    if (attempt.kind !== "trouble" || attempt.why !== why) return attempt;
    await shorten(message);
    return await guarded(signal);
  }

  async function guarded(signal: AbortSignal): Promise<Attempt> {
    try {
      return dialect === "gitlab" ? await deliverByPatches(signal) : await deliverAtOnce(signal);
    } catch (error) {
      if (signal.aborted) return { kind: "stopped" };
      return explain(error);
    }
  }

  function explain(error: unknown): Attempt {
    const answered = troubleOf(error);
    if (answered === undefined) {
      // Nothing from the wire: the spool cannot be read.
      if (++unreadable > MOST_UNREADABLE && dialect === "gitlab") {
        keepBytes = null;
        unverified = true;
      }
      return trouble(describeError(error), "ours");
    }
    const { kind: why, retryAfterMs = 0 } = answered;
    if (endings.has(why)) return { kind: "settled", result: "refused" };
    return { kind: "trouble", why, message: describeError(error), retryAfterMs };
  }

  const deliver: Deliver = async (signal) => {
    const attempt = await guarded(signal);
    if (attempt.kind !== "trouble" || attempt.why === "ours") return attempt;
    try {
      return (await blamesTrace(attempt.why, attempt.message, deliver, signal)) ?? attempt;
    } catch (error) {
      log.debug(`cannot shorten the trace of job ${id}`, { job: id, problem: describeError(error) });
      return attempt;
    }
  };
  return deliver;
}
