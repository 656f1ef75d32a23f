import type { Config, RunnerConfig } from "../config/config.ts";
import type { Executor } from "../executor/executor.ts";
import type { EntryMeter } from "../metrics/meters.ts";
import type { Metrics } from "../metrics/metrics.ts";
import { closeExecutor } from "./close-executor.ts";

/** An entry's executor. A reload may hand it on to the entry's next version, while jobs of the one before still run on it. */
export interface Lease {
  readonly executor: Executor;
  /** Once per entry that has it; the last one closes the executor. @throws what closing throws */
  leave(): Promise<void>;
}

export interface Leases {
  /** The executor of an entry that is about to leave, if it can go on for this one; else a new one. */
  take(entry: RunnerConfig, config: Config): Lease;
  /** Before the entries of a new configuration are started: whose executors are to be had. */
  offer(leases: readonly Lease[]): void;
}

export interface LeasesOptions {
  readonly openExecutor: (entry: RunnerConfig, config: Config, meter: EntryMeter) => Executor;
  readonly metrics: Pick<Metrics, "entry">;
}

interface Known {
  entry: RunnerConfig;
  readonly executor: Executor;
  /** Lives as long as the executor, and not only as long as the entry that it was opened for. */
  readonly meter: EntryMeter;
  users: number;
}

export function createLeases({ openExecutor, metrics }: LeasesOptions): Leases {
  const known = new WeakMap<Lease, Known>();
  let offered: Known[] = [];

  const lease = (one: Known): Lease => {
    one.users++;
    let left = false;
    const mine: Lease = {
      executor: one.executor,
      async leave() {
        if (left) return;
        left = true;
        if (--one.users > 0) return;
        try {
          await closeExecutor(one.executor);
        } finally {
          one.meter.close();
        }
      },
    };
    known.set(mine, one);
    return mine;
  };

  const open = (entry: RunnerConfig, config: Config): Known => {
    const meter = metrics.entry(entry);
    try {
      return { entry, executor: openExecutor(entry, config, meter), meter, users: 0 };
    } catch (error) {
      meter.close();
      throw error;
    }
  };

  /** The same settings, or others that it takes over. */
  const fits = (one: Known, entry: RunnerConfig): boolean =>
    one.entry.id === entry.id &&
    one.entry.executor === entry.executor &&
    (one.entry.executorFingerprint === entry.executorFingerprint || entry.reconfigure(one.executor));

  return {
    take(entry, config) {
      const found = offered.find((one) => fits(one, entry));
      if (found === undefined) return lease(open(entry, config));
      offered = offered.filter((one) => one !== found);
      found.entry = entry;
      return lease(found);
    },
    offer(leases) {
      offered = leases.flatMap((one) => known.get(one) ?? []);
    },
  };
}
