import type { Config } from "../config/config.ts";
import { describeError } from "../errors.ts";
import type { Executor, ExecutorCatalog, ExecutorDeps } from "../executor.ts";
import type { StoredJob } from "../journal/contract.ts";
import type { Log } from "../log.ts";

/** For an executor whose entry is gone. */
export const WITHOUT_ENTRY = {
  buildsDir: undefined,
  cacheDir: undefined,
  shell: undefined,
  inheritEnvironment: [],
  killLeftovers: true,
  killGraceMs: 10_000,
};

export interface CleanersOptions {
  readonly catalog: ExecutorCatalog;
  /** The entries of today. */
  readonly runners: () => Config["runners"];
  readonly around: () => Pick<ExecutorDeps, "log" | "workingDirectory" | "user" | "scratchDir">;
}

/** Executors that clean up after dead jobs, one for all jobs of an entry. */
export interface Cleaners {
  /** With its entry's settings where the entry is still there, else with none; `null`: there is no such executor. */
  executorFor(stored: StoredJob): Promise<Executor | null>;
  close(log: Log): Promise<void>;
}

export function createCleaners({ catalog, runners, around }: CleanersOptions): Cleaners {
  const opened = new Map<string, Promise<Executor | null>>();

  const open = async ({ runner, executor }: StoredJob): Promise<Executor | null> => {
    const entry = runners().find((one) => one.id === runner.id && one.executor === executor);
    if (entry !== undefined) return entry.openExecutor(around());
    if (!catalog.names.includes(executor)) return null;
    const definition = await catalog.load(executor);
    return definition.create({}, { ...around(), ...WITHOUT_ENTRY });
  };

  return {
    executorFor(stored) {
      const key = `${stored.runner.id} ${stored.executor}`;
      const cleaner = opened.get(key) ?? open(stored);
      opened.set(key, cleaner);
      // Tried anew for the next job, or the next time.
      cleaner.catch(() => opened.delete(key));
      return cleaner;
    },
    async close(log) {
      const closing = [...opened.values()].map(async (executor) => await (await executor)?.close());
      for (const result of await Promise.allSettled(closing)) {
        if (result.status === "rejected")
          log.warn("cannot close what cleaned up after dead jobs", { problem: describeError(result.reason) });
      }
    },
  };
}
