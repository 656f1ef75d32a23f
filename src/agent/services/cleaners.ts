import type { Config, ExecutorSurroundings } from "../../config/config.ts";
import { describeError } from "../../errors.ts";
import type { Executor, ExecutorCatalog } from "../../executor/executor.ts";
import type { StoredJob } from "../../journal/contract.ts";
import type { Log } from "../../log.ts";
import { closeExecutor } from "../../poll/close-executor.ts";
import { WITHOUT_ENTRY } from "../surroundings.ts";

export interface CleanersOptions {
  readonly catalog: ExecutorCatalog;
  /** The entries of today. */
  readonly runners: () => Config["runners"];
  readonly around: () => ExecutorSurroundings;
}

/** Executors that clean up after dead jobs, one for all jobs of an entry. */
export interface Cleaners {
  /**
   * The executor of a dead job, with its entry's settings where the entry is still there, else with none; `null`: there is
   * no such executor.
   */
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
    const { log, host, meter, user } = around();
    return definition.create({}, { log, host, meter, entry: WITHOUT_ENTRY, shell: { user, inheritEnvironment: [] } });
  };

  return {
    executorFor(stored) {
      const key = `${stored.runner.id} ${stored.executor}`;
      const cleaner = opened.get(key) ?? open(stored);
      opened.set(key, cleaner);
      // A failure is not kept: the next job tries anew.
      cleaner.catch(() => opened.delete(key));
      return cleaner;
    },
    async close(log) {
      const closing = [...opened.values()].map(async (opening) => {
        const executor = await opening;
        if (executor !== null) await closeExecutor(executor);
      });
      for (const result of await Promise.allSettled(closing)) {
        if (result.status === "rejected")
          log.warn("cannot close what cleaned up after dead jobs", { problem: describeError(result.reason) });
      }
    },
  };
}
