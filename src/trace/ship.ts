import type { Coordinator, RemoteStatus } from "../coordinator/contract.ts";
import { troubleOf } from "../coordinator/contract.ts";
import { describeError } from "../errors.ts";
import type { JobCredentials } from "../job/job.ts";
import type { Log } from "../log.ts";
import { backoff, unlessAborted } from "../time.ts";
import type { Trace } from "./contract.ts";
import { formatCrc32 } from "./crc32.ts";
import { lastCleanCut, lastLineEnd } from "./mask/pieces.ts";
import { createBudget, createPace } from "./pace.ts";

/** Waits and sizes; tests pass smaller ones. Times in milliseconds. */
export interface ShipTiming {
  /** The first bytes leave within this time. Default 100. */
  readonly firstMs?: number;
  /** What comes in so short a time is one piece. Default 10. */
  readonly batchMs?: number;
  /** Least time between pieces while little is printed. Default 250, on GitLab 350. */
  readonly quietMs?: number;
  /** The same under steady output beyond what can be read. Default 1000. */
  readonly steadyMs?: number;
  /** How long the beginning of a line waits for its end. Default 1000. */
  readonly holdLineMs?: number;
  /** After so long without a request the coordinator is asked whether the job is still wanted. Default 4500. */
  readonly probeMs?: number;
  /** First wait after a failed request; doubles up to 60 s. Default 1000. */
  readonly retryMs?: number;
  /** Requests per job and minute. Default 190 on GitLab, which allows 200, and no bound on AlloyCI. */
  readonly requestsPerMinute?: number;
}

export interface ShipOptions {
  readonly trace: Trace;
  readonly coordinator: Pick<Coordinator, "appendTrace" | "updateJob">;
  readonly job: JobCredentials;
  /** Told once that the script should stop, and once that the job is over at the coordinator. */
  readonly onStatus: (status: "canceling" | "gone") => void;
  readonly log: Log;
  /** Told how much of the trace has arrived. */
  readonly onAcknowledged?: (offset: number) => void;
  /** An earlier process has shipped it up to here at least. Then the first thing is to ask whether the job is still wanted. */
  readonly arrived?: number;
  readonly timing?: ShipTiming;
}

/** The live view of one job's trace. */
export interface Shipper {
  /** Bytes that the coordinator has acknowledged. */
  readonly sent: number;
  /** Nothing more may be sent for this job. */
  readonly gone: boolean;
  /**
   * Ends the live view: no further piece leaves, the request under way may end until `signal` fires. The rest of the trace
   * is the final report's business. Never rejects. `offered`: the end of what was ever sent.
   */
  finish(signal: AbortSignal): Promise<{ sent: number; offered: number; gone: boolean }>;
}

/** GitLab accepts more, AlloyCI up to 8 MB. */
const PIECE_BYTES = 1024 * 1024;
const GATHER_BYTES = 64 * 1024;
/** Pieces from this size on are read into memory that is used again. */
const LARGE_BYTES = 256 * 1024;
/** The longest interval that a coordinator may ask for. */
const MAX_INTERVAL_MS = 15 * 60_000;

/**
 * Sends the trace while the job runs, in order, one request at a time, and hears of cancellation by the way. It never holds
 * the job: whatever goes wrong is tried again later, until `finish`.
 */
export function shipTrace({
  trace,
  coordinator,
  job,
  onStatus,
  log,
  onAcknowledged,
  arrived,
  timing = {},
}: ShipOptions): Shipper {
  const gitlab = job.dialect === "gitlab";
  const { firstMs = 100, batchMs = 10, quietMs = gitlab ? 350 : 250, steadyMs = 1000, holdLineMs = 1000 } = timing;
  const { probeMs = 4500, retryMs = 1000, requestsPerMinute = gitlab ? 190 : Number.POSITIVE_INFINITY } = timing;
  const pace = createPace({
    ...{ firstMs, batchMs, quietMs, steadyMs, holdLineMs },
    ...{ maxIntervalMs: MAX_INTERVAL_MS, gatherBytes: GATHER_BYTES, pieceBytes: PIECE_BYTES },
  });
  const budget = createBudget(requestsPerMinute);
  const waits = backoff({ firstMs: retryMs, maxMs: 60_000 });
  const bell = createBell();
  const calls = new AbortController();

  let block: Buffer | undefined;
  let sent = Math.min(arrived ?? 0, trace.size);
  /** End of what was ever sent, answered or not. */
  let offered = arrived === undefined ? 0 : trace.size;
  let gone = false;
  let canceling = false;
  let finishing = false;
  /** Since when there are bytes that have not left. */
  let freshSince: number | undefined;
  let grownAt = performance.now();
  /** Size at which only the beginning of a line was left to send. */
  let unfinishedSize = -1;
  let lastContact = performance.now();
  let blockedUntil = 0;
  let failing = false;
  /** The last answer wanted other bytes than those that follow what was sent. */
  let repositioned = false;
  /** Until then no piece is sent to a coordinator that never agrees; whether the job is still wanted is asked all the same. */
  let disagreedUntil = 0;

  const stopWatching = trace.watch(() => {
    grownAt = performance.now();
    if (trace.size > sent) freshSince ??= grownAt;
    bell.ring();
  });

  function hear(status: RemoteStatus): void {
    if (status === "gone" && !gone) {
      gone = true;
      onStatus("gone");
    } else if (status === "canceling" && !canceling && !gone) {
      canceling = true;
      onStatus("canceling");
    }
  }

  function nextPieceAt(): number {
    if (trace.size <= sent) return Number.POSITIVE_INFINITY;
    freshSince ??= performance.now();
    const due = pace.due(trace.size - sent, freshSince, grownAt);
    return trace.size === unfinishedSize ? Math.max(due, pace.holdUntil(freshSince)) : due;
  }

  /** What to send from `sent` on; nothing while only the beginning of a line is there. */
  async function nextPiece(): Promise<Buffer | undefined> {
    const size = trace.size;
    // One piece is under way at a time, so a flood needs one piece of memory and not a new one for each.
    if (size - sent < LARGE_BYTES) block = undefined;
    else block ??= Buffer.allocUnsafeSlow(PIECE_BYTES);
    const bytes = await trace.read(sent, PIECE_BYTES, block);
    const end = lastLineEnd(bytes);
    if (end > 0) return bytes.subarray(0, end);
    const since = freshSince ?? performance.now();
    if (bytes.length < GATHER_BYTES && performance.now() < pace.holdUntil(since)) {
      unfinishedSize = size;
      return undefined;
    }
    return bytes.subarray(0, lastCleanCut(bytes));
  }

  async function sendPiece(): Promise<void> {
    const bytes = await nextPiece();
    if (bytes === undefined || finishing) return;
    const [from, since, startedAt] = [sent, freshSince ?? performance.now(), performance.now()];
    budget.spend(startedAt);
    const end = from + bytes.length;
    offered = Math.max(offered, end);
    const answer = await coordinator.appendTrace(job, { from, bytes }, calls.signal);
    if (calls.signal.aborted) return; // whoever called finish has counted without this piece
    pace.sent(bytes.length, since, startedAt);
    pace.asked(answer.intervalMs);
    // It cannot have what it was never sent.
    sent = answer.next > offered ? from : Math.max(0, answer.next);
    freshSince = trace.size > sent ? performance.now() : undefined;
    unfinishedSize = -1;
    contact();
    onAcknowledged?.(sent);
    hear(answer.status);
    // It wants other bytes than it was sent. The first time they follow at once; one that never agrees has to wait.
    if (sent === end) waits.reset();
    else if (!gone) disagreedUntil = repositioned ? performance.now() + waits.next() : 0;
    repositioned = sent !== end;
  }
  /** Asks whether the job is still wanted; on AlloyCI an empty piece, which changes nothing there. */
  async function probe(): Promise<void> {
    budget.spend(performance.now());
    if (!gitlab) {
      const nothing = { from: sent, bytes: new Uint8Array(0) };
      const { status } = await coordinator.appendTrace(job, nothing, calls.signal);
      hear(status);
    } else {
      const update = { state: "running", checksum: formatCrc32(trace.crc32), bytes: trace.size } as const;
      const answer = await coordinator.updateJob(job, update, calls.signal);
      if (answer.kind === "done") hear(answer.status);
    }
    contact();
    waits.reset();
  }

  function contact(): void {
    lastContact = performance.now();
    if (failing) log.info("the coordinator takes the job's trace again");
    failing = false;
  }

  function retryLater(error: unknown): void {
    const waitMs = Math.max(waits.next(), troubleOf(error)?.retryAfterMs ?? 0);
    blockedUntil = performance.now() + waitMs;
    if (failing) return;
    failing = true;
    log.warn("cannot send the job's trace, the job goes on and it is sent later", { problem: describeError(error) });
  }

  async function run(): Promise<void> {
    if (arrived !== undefined) await probe().catch(retryLater);
    while (!finishing && !gone) {
      const now = performance.now();
      const pieceAt = Math.max(nextPieceAt(), disagreedUntil);
      const errand = trace.size - sent >= PIECE_BYTES ? "full_piece" : "piece";
      const nextAt = Math.min(
        Math.max(pieceAt, now + budget.waitMs(now, errand)),
        Math.max(lastContact + probeMs, now + budget.waitMs(now, "probe")),
      );
      const at = Math.max(nextAt, blockedUntil);
      if (at > now) {
        await bell.wait(at - now);
        continue;
      }
      try {
        await (pieceAt <= now && budget.waitMs(now, errand) === 0 ? sendPiece() : probe());
      } catch (error) {
        if (!calls.signal.aborted) retryLater(error);
      }
    }
  }

  const running = run()
    .catch((error: unknown) => log.error("live trace ended", { problem: describeError(error) }))
    .finally(stopWatching);

  return {
    get sent() {
      return sent;
    },
    get gone() {
      return gone;
    },
    async finish(signal) {
      finishing = true;
      bell.ring();
      await unlessAborted(running, signal).catch(() => calls.abort(signal.reason));
      return { sent, offered, gone };
    },
  };
}

/** A wait that can be ended early, also by a ring that came before it. */
function createBell(): { ring(): void; wait(ms: number): Promise<void> } {
  let rung = false;
  let wake: (() => void) | undefined;
  return {
    ring() {
      rung = true;
      wake?.();
    },
    async wait(ms) {
      if (!rung) {
        const { promise, resolve } = Promise.withResolvers<void>();
        // A timer may fire a little early; the loop then waits for the rest.
        const timer = Number.isFinite(ms) ? setTimeout(resolve, Math.ceil(ms)) : undefined;
        wake = resolve;
        await promise;
        clearTimeout(timer);
        wake = undefined;
      }
      rung = false;
    },
  };
}
