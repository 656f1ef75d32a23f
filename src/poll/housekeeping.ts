import { describeError, Stop } from "../errors.ts";
import type { Executor } from "../executor/executor.ts";
import type { KeepBudgets, Tidied } from "../executor/keeping.ts";
import type { Log } from "../log.ts";
import { deadline } from "../time.ts";

export interface HousekeeperOptions {
  readonly budgets: () => KeepBudgets;
  /** Of all entries, each once. */
  readonly executors: () => readonly Pick<Executor, "name" | "tidy">[];
  /** Whether jobs run. */
  readonly isBusy: () => boolean;
  readonly freed: (kind: Tidied["kind"], bytes: number) => void;
  readonly log: Log;
  readonly timing?: HousekeepingTiming;
}

export interface HousekeepingTiming {
  /** Between two looks whether it is time. */
  readonly everyMs: number;
  /** A machine that is never idle is tidied, too, after this long. */
  readonly busyMs: number;
  /** Between two times under pressure. */
  readonly pressedMs: number;
}

const TIMING: HousekeepingTiming = { everyMs: 600_000, busyMs: 3_600_000, pressedMs: 60_000 };
const LIMIT_MS = 1_200_000;

/** Removes what executors keep between jobs beyond its budgets: while no job runs, once in a while otherwise, and when disks are full. */
export interface Housekeeper {
  /** @returns what has gone, or with `dry` would go */
  tidy(dry: boolean, signal: AbortSignal): Promise<readonly Tidied[]>;
  /** A disk is too full for jobs: tidies in the background. */
  press(): void;
  close(): Promise<void>;
}

export function createHousekeeper(options: HousekeeperOptions): Housekeeper {
  const { budgets, executors, isBusy, freed, log, timing = TIMING } = options;
  const over = new AbortController();
  let work: Promise<unknown> = Promise.resolve();
  let lastAt = performance.now();
  let pressedAt = Number.NEGATIVE_INFINITY;

  const isWanted = (): boolean => Object.values(budgets()).some((budget) => budget !== null);

  const tidyAll = async (dry: boolean, signal: AbortSignal): Promise<Tidied[]> => {
    const found = new Map<string, Tidied>();
    for (const executor of executors()) {
      const gone = await executor.tidy?.(budgets(), { dry }, signal).catch((error: unknown) => {
        signal.throwIfAborted();
        log.warn("housekeeping failed", { executor: executor.name, problem: describeError(error) });
        return [];
      });
      // Entries at one engine name the same things.
      for (const thing of gone ?? []) found.set(`${thing.where} ${thing.kind} ${thing.name}`, thing);
    }
    const all = [...found.values()];
    if (dry) return all;
    for (const { kind, name, bytes, why, problem } of all) {
      if (problem !== undefined) log.warn("housekeeping could not remove something", { kind, name, problem });
      else {
        freed(kind, bytes);
        log.info("housekeeping removed something", { kind, name, bytes, why });
      }
    }
    return all;
  };

  /** One after the other. */
  const queued = async (dry: boolean, signal: AbortSignal): Promise<Tidied[]> => {
    using limit = deadline(
      AbortSignal.any([signal, over.signal]),
      LIMIT_MS,
      new Stop("timed_out", "housekeeping took too long"),
    );
    const mine = work.catch(() => {}).then(() => tidyAll(dry, limit.signal));
    work = mine;
    return await mine;
  };

  const inBackground = (): void => {
    if (!isWanted() || over.signal.aborted) return;
    lastAt = performance.now();
    queued(false, over.signal).catch((error: unknown) => {
      if (!over.signal.aborted) log.warn("housekeeping failed", { problem: describeError(error) });
    });
  };

  const timer = setInterval(() => {
    if (!isBusy() || performance.now() - lastAt > timing.busyMs) inBackground();
  }, timing.everyMs);
  timer.unref();

  return {
    tidy: queued,
    press() {
      if (performance.now() - pressedAt < timing.pressedMs) return;
      pressedAt = performance.now();
      inBackground();
    },
    async close() {
      clearInterval(timer);
      over.abort(new Stop("shutting_down", "the runner ends"));
      await work.catch(() => {});
    },
  };
}
