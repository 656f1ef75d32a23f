import type { Coordinator } from "../../coordinator/contract.ts";
import { describeError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { unlessAborted } from "../../time.ts";
import type { DeliveryResult, Outbox, SentTrace, StoredJob } from "../contract.ts";
import { createDelivery, type Deliverable, type DeliveryOptions } from "./delivery.ts";
import { createLane, type Lane, type LaneTiming } from "./lane.ts";
import { fromMemory, fromSpool, type TraceSource } from "./trace-source.ts";

export interface OutboxOptions {
  /** A line to a coordinator from what a job's record knows of it; closed by the outbox. */
  readonly openCoordinator: (runner: StoredJob["runner"]) => Coordinator;
  readonly log: Log;
  /** Asked at each failure: results older than this are given up. */
  readonly maxAgeMs: () => number;
  /** Told of each end, with the time since the job's end. */
  readonly onSettled?: (result: DeliveryResult, ageMs: number) => void;
  readonly timing?: Partial<OutboxTiming>;
}

interface OutboxTiming extends LaneTiming {
  /** How long a trace must have been refused, by a coordinator that answers otherwise, before it is shortened. */
  readonly suspectMs: number;
  /** How long an unused line to a coordinator is kept. */
  readonly lingerMs: number;
}

const usualTiming: OutboxTiming = {
  parallel: 8,
  firstMs: 1000,
  maxMs: 60_000,
  probeMaxMs: 40_000,
  remindMs: 600_000,
  suspectMs: 10_000,
  lingerMs: 60_000,
};

interface Line {
  readonly coordinator: Coordinator;
  users: number;
  timer: NodeJS.Timeout | undefined;
}

interface Waiting {
  /** Time since the job's end. A clock that is set while it waits makes it neither older nor younger. */
  readonly ageMs: () => number;
  bytes: number;
}

interface DeliveryStart extends SentTrace {
  readonly unverified: boolean;
}

/**
 * Delivers finished jobs' results in the background. Each coordinator has its own lane: one that is away delays
 * nobody else. What is not delivered when the process ends is found in the journal by the next one.
 */
export function createOutbox({ openCoordinator, log, maxAgeMs, onSettled, timing }: OutboxOptions): Outbox {
  const times = { ...usualTiming, ...timing };
  const { suspectMs } = times;
  const lanes = new Map<string, Lane>();
  const lines = new Map<string, Line>();
  const waiting = new Map<string, Waiting>();
  const underWay = new Set<Promise<DeliveryResult>>();
  /** Announced, not yet in a lane: `close` waits for them first. */
  const starting = new Set<Promise<void>>();
  let closed = false;
  let lanesClosed = false;

  function lineTo(runner: StoredJob["runner"]): { coordinator: Coordinator; release(): void } {
    const { url, token, tlsCaFile, tlsCertFile, tlsKeyFile, certsDir } = runner;
    const key = JSON.stringify([url, token, tlsCaFile, tlsCertFile, tlsKeyFile, certsDir]);
    const line = lines.get(key) ?? { coordinator: openCoordinator(runner), users: 0, timer: undefined };
    lines.set(key, line);
    clearTimeout(line.timer);
    line.users++;
    const letGo = (): void => {
      lines.delete(key);
      clearTimeout(line.timer);
      line.coordinator.close().catch((error: unknown) => {
        log.debug(`cannot close the line to ${line.coordinator.origin}`, { problem: describeError(error) });
      });
    };
    return {
      coordinator: line.coordinator,
      release() {
        if (--line.users > 0) return;
        if (closed) letGo();
        else line.timer = setTimeout(letGo, times.lingerMs).unref();
      },
    };
  }

  function laneOf(origin: string): Lane {
    const lane = lanes.get(origin) ?? createLane({ origin, log, timing: times });
    lanes.set(origin, lane);
    return lane;
  }

  /** See one result through to its end. */
  async function enqueue(
    record: Deliverable,
    trace: TraceSource,
    starts: DeliveryStart | Promise<DeliveryStart>,
  ): Promise<DeliveryResult> {
    const { stored, report } = record;
    if (report === null) throw new Error(`job ${stored.id} has no result to deliver`);
    if (closed) return "kept";
    const { coordinator, release } = lineTo(stored.runner);
    const place = placeOf(coordinator.origin, stored.id);
    const entry: Waiting = { ageMs: agingFrom(timeOf(report.at)), bytes: 0 };
    waiting.set(place, entry);
    const begun = Promise.withResolvers<void>();
    starting.add(begun.promise);
    try {
      const start = await starts;
      entry.bytes = (await trace.size()) ?? 0;
      const way = send({ ...start, record, report, trace, coordinator, from: start.sent, log, suspectMs }, entry);
      underWay.add(way);
      begun.resolve();
      return await way.finally(() => underWay.delete(way));
    } finally {
      begun.resolve();
      starting.delete(begun.promise);
      if (waiting.get(place) === entry) waiting.delete(place);
      release();
    }
  }

  async function send(options: DeliveryOptions, entry: Waiting): Promise<DeliveryResult> {
    const { record, coordinator } = options;
    const deliver = createDelivery(options);
    const { ageMs } = entry;
    const result = await new Promise<DeliveryResult>((settle) => {
      if (lanesClosed) settle("kept");
      else laneOf(coordinator.origin).add({ deliver, expired: () => ageMs() > maxAgeMs(), settle });
    });
    await conclude(record, coordinator.origin, result);
    onSettled?.(result, ageMs());
    return result;
  }

  async function conclude({ stored, remove }: Deliverable, origin: string, result: DeliveryResult): Promise<void> {
    const fields = { job: stored.id, runner: stored.runner.id };
    if (result === "kept") return;
    const what = `job ${stored.id} (${stored.title})`;
    if (result === "refused") log.info(`${origin} wants no (more) report of ${what}`, fields);
    if (result === "expired")
      log.error(`the result of ${what} could not be delivered to ${origin} in time; it is given up`, fields);
    await remove().catch((error: unknown) =>
      log.error("a record of a job cannot be removed", { ...fields, problem: describeError(error) }),
    );
  }

  return {
    deliver: (record, sent) =>
      enqueue(
        record,
        fromSpool(record.tracePath),
        Promise.resolve(sent).then((state) => ({ ...state, unverified: false })),
      ),
    adopt: ({ record, acknowledged, diedAt }) =>
      // Beyond where the spool was cut by a power failure, the coordinator has bytes that nobody else has any more.
      enqueue(record, fromSpool(record.tracePath), {
        sent: acknowledged,
        offered: Number.POSITIVE_INFINITY,
        gone: false,
        unverified: diedAt !== null && acknowledged > diedAt,
      }),
    answer: (stored, report, line) =>
      enqueue(
        { stored, report, acknowledged: () => undefined, remove: async () => undefined },
        fromMemory(Buffer.from(line)),
        { sent: 0, offered: 0, gone: false, unverified: false },
      ),
    has: (origin, jobId) => waiting.has(placeOf(origin, jobId)),
    answered(origin) {
      lanes.get(origin)?.answered();
    },
    gauges() {
      let oldestMs = 0;
      let bytes = 0;
      for (const entry of waiting.values()) {
        oldestMs = Math.max(oldestMs, entry.ageMs());
        bytes += entry.bytes;
      }
      return { entries: waiting.size, oldestSeconds: oldestMs / 1000, bytes };
    },
    async close(signal) {
      closed = true;
      await unlessAborted(Promise.allSettled(starting), signal).catch(() => undefined);
      lanesClosed = true;
      await Promise.all([...lanes.values()].map((lane) => lane.close(signal)));
      await Promise.allSettled(underWay);
      // The others are closed by their last user, who may still be starting when the signal has fired.
      for (const [key, { coordinator, users, timer }] of lines) {
        if (users > 0) continue;
        clearTimeout(timer);
        lines.delete(key);
        await coordinator.close().catch(() => undefined);
      }
    },
  };
}

function placeOf(origin: string, jobId: string): string {
  return `${origin} ${jobId}`;
}

function agingFrom(time: number): () => number {
  const since = performance.now() - Math.max(0, Date.now() - time);
  return () => performance.now() - since;
}

/** A report of unreadable date is taken for one of now. */
function timeOf(text: string): number {
  const at = Date.parse(text);
  return Number.isNaN(at) ? Date.now() : at;
}
