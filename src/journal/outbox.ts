import { stat } from "node:fs/promises";
import type { Coordinator } from "../coordinator/contract.ts";
import { describeError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { DeliveryResult, JobRecord, Outbox, StoredJob } from "./contract.ts";
import { createDelivery } from "./delivery.ts";
import { createLane, type Lane, type LaneTiming } from "./lane.ts";

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

export interface OutboxTiming extends LaneTiming {
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
  readonly finishedAt: number;
  bytes: number;
}

interface DeliveryStart {
  readonly from: number;
  readonly gone: boolean;
  readonly unverified: boolean;
}

/**
 * Delivers finished jobs' results in the background. Each coordinator has its own lane: one that is away delays
 * nobody else. What is not delivered when the process ends is found in the journal by the next one.
 */
export function createOutbox({ openCoordinator, log, maxAgeMs, onSettled, timing }: OutboxOptions): Outbox {
  const times = { ...usualTiming, ...timing };
  const lanes = new Map<string, Lane>();
  const lines = new Map<string, Line>();
  const waiting = new Map<string, Waiting>();
  const underWay = new Set<Promise<DeliveryResult>>();
  let closed = false;

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
        log.debug(`cannot close the line to ${line.coordinator.origin}: ${describeError(error)}`);
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

  function enqueue(record: JobRecord, start: DeliveryStart): Promise<DeliveryResult> {
    if (closed) return Promise.resolve("kept");
    const way = see(record, start).finally(() => underWay.delete(way));
    underWay.add(way);
    return way;
  }

  /** See one result through to its end. */
  async function see(record: JobRecord, start: DeliveryStart): Promise<DeliveryResult> {
    const { stored, report, tracePath } = record;
    if (report === null) throw new Error(`job ${stored.id} has no result to deliver`);
    const { coordinator, release } = lineTo(stored.runner);
    const place = placeOf(coordinator.origin, stored.id);
    const finishedAt = timeOf(report.at);
    const entry: Waiting = { finishedAt, bytes: 0 };
    waiting.set(place, entry);
    try {
      entry.bytes = await stat(tracePath).then(
        ({ size }) => size,
        () => 0,
      );
      const deliver = createDelivery({ ...start, record, report, coordinator, log, suspectMs: times.suspectMs });
      const expired = (): boolean => Date.now() - finishedAt > maxAgeMs();
      const result = await new Promise<DeliveryResult>((settle) => {
        if (closed) settle("kept");
        else laneOf(coordinator.origin).add({ deliver, expired, settle });
      });
      await conclude(record, coordinator.origin, result);
      onSettled?.(result, Math.max(0, Date.now() - finishedAt));
      return result;
    } finally {
      if (waiting.get(place) === entry) waiting.delete(place);
      release();
    }
  }

  async function conclude({ stored, remove }: JobRecord, origin: string, result: DeliveryResult): Promise<void> {
    const fields = { job: stored.id, runner: stored.runner.id };
    if (result === "kept") return;
    if (result === "refused")
      log.info(`${origin} wants no (more) report of job ${stored.id} (${stored.title})`, fields);
    if (result === "expired") {
      log.error(
        `the result of job ${stored.id} (${stored.title}) could not be delivered to ${origin} in time; it is given up`,
        fields,
      );
    }
    await remove().catch((error: unknown) => log.error(describeError(error), fields));
  }

  return {
    deliver: (record, { from, gone }) => enqueue(record, { from, gone, unverified: false }),
    adopt: ({ record, acknowledged, diedAt }) =>
      // Beyond where the spool was cut by a power failure, the coordinator has bytes that nobody else has any more.
      enqueue(record, { from: acknowledged, gone: false, unverified: diedAt !== null && acknowledged > diedAt }),
    has: (origin, jobId) => waiting.has(placeOf(origin, jobId)),
    answered(origin) {
      lanes.get(origin)?.answered();
    },
    gauges() {
      let oldest = Number.POSITIVE_INFINITY;
      let bytes = 0;
      for (const entry of waiting.values()) {
        oldest = Math.min(oldest, entry.finishedAt);
        bytes += entry.bytes;
      }
      const oldestSeconds = waiting.size === 0 ? 0 : Math.max(0, (Date.now() - oldest) / 1000);
      return { entries: waiting.size, oldestSeconds, bytes };
    },
    async close(signal) {
      closed = true;
      await Promise.all([...lanes.values()].map((lane) => lane.close(signal)));
      await Promise.allSettled(underWay);
      // Those whose last user left before; the others have gone with theirs.
      for (const { coordinator, timer } of lines.values()) {
        clearTimeout(timer);
        await coordinator.close().catch(() => undefined);
      }
      lines.clear();
    },
  };
}

function placeOf(origin: string, jobId: string): string {
  return `${origin} ${jobId}`;
}

/** A report of unreadable date is taken for one of now. */
function timeOf(text: string): number {
  const at = Date.parse(text);
  return Number.isNaN(at) ? Date.now() : at;
}
