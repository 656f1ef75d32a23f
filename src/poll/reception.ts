import type { Config, RunnerConfig } from "../config/config.ts";
import type { Coordinator } from "../coordinator/contract.ts";
import { describeError } from "../errors.ts";
import type { Executor } from "../executor/executor.ts";
import type { FoundJob } from "../job/life/received.ts";
import type { Log } from "../log.ts";
import type { EntryMeter } from "../metrics/meters.ts";
import type { Metrics } from "../metrics/metrics.ts";
import type { Arrival, Jobs } from "./jobs.ts";
import type { Leases } from "./leases.ts";
import type { Slots } from "./slots.ts";

export interface ReceptionOptions {
  readonly jobs: Jobs;
  readonly leases: Leases;
  readonly openCoordinator: (entry: RunnerConfig, meter: EntryMeter) => Coordinator;
  readonly metrics: Pick<Metrics, "entry">;
  readonly log: Log;
}

/** A job of an earlier process that goes on, and the entry that it began with. */
export interface EntryJob {
  readonly entry: RunnerConfig;
  readonly found: FoundJob;
}

/** Where the jobs of one entry arrive, with what was opened for them. */
export interface Reception {
  readonly entry: RunnerConfig;
  readonly executor: Executor;
  readonly lease: ReturnType<Leases["take"]>;
  readonly coordinator: Coordinator;
  readonly meter: EntryMeter;
  readonly log: Log;
  /** See `Jobs.take`. */
  take(arrival: Omit<Arrival, "entry" | "executor" | "coordinator" | "meter" | "log">): boolean;
  /** A job that runs already: it has its slot before anybody asks for one. */
  takeUp(found: FoundJob, slots: Slots): void;
  /** Resolves when all jobs have ended and all is closed; never rejects. */
  close(): Promise<void>;
}

/** @throws {Error} its coordinator's address, or its executor, cannot be used */
export function openReception(entry: RunnerConfig, from: Config, options: ReceptionOptions): Reception {
  const { jobs, leases, openCoordinator, metrics } = options;
  const log = options.log.child({ runner: entry.id, name: entry.name });
  const running = new Set<Promise<void>>();
  const meter = metrics.entry(entry);
  let coordinator: Coordinator;
  let lease: Reception["lease"];
  try {
    coordinator = openCoordinator(entry, meter);
    lease = leases.take(entry, from);
  } catch (error) {
    meter.close();
    throw error;
  }
  const { executor } = lease;
  const take: Reception["take"] = (arrival) => {
    const ended = jobs.take({ ...arrival, entry, executor, coordinator, meter, log });
    if (ended === null) return false;
    running.add(ended);
    void ended.finally(() => running.delete(ended));
    return true;
  };
  return {
    ...{ entry, executor, lease, coordinator, meter, log, take },
    takeUp(found, slots) {
      const { id: token, limit, weight } = entry;
      const { job, plan } = found.life;
      const slot = slots.occupy({ token, limit, weight, requestConcurrency: 1 }, plan?.concurrentId ?? 0);
      const nothing = { reservation: undefined, session: undefined, onPlace: () => {}, onDelivered: () => {} };
      if (!take({ job, found, slot, ...nothing })) slot.release();
    },
    async close() {
      await Promise.all(running);
      const closing = await Promise.allSettled([lease.leave(), coordinator.close()]);
      for (const result of closing) {
        if (result.status === "rejected") log.warn("cannot close an entry", { problem: describeError(result.reason) });
      }
      meter.close();
    },
  };
}
