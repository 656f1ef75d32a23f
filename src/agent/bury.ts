import type { CommandContext } from "../commands/context.ts";
import type { Bury } from "../commands/exec/here/sweep.ts";
import { ConfigError, describeError, Stop } from "../errors.ts";
import { noMeter } from "../executor/deps.ts";
import { openJournal } from "../journal/records/journal.ts";
import { openStateDir } from "../journal/state/state-dir.ts";
import type { RunnerLog } from "../log.ts";
import { closeExecutor } from "../poll/close-executor.ts";
import { deadline } from "../time.ts";
import { hostPlaces, WITHOUT_ENTRY } from "./surroundings.ts";

/** How long what dead runs have left may take to end. */
const BURY_MS = 30_000;

export interface BuryDeps {
  readonly context: CommandContext;
  readonly log: RunnerLog;
  /** SIGTERM → SIGKILL. */
  readonly killGraceMs: number;
}

/**
 * Cleans up after a run that was killed, by its journal: ends its processes and removes what it has at an engine or on
 * another host.
 */
export function createBury({ context, log, killGraceMs }: BuryDeps): Bury {
  return async (stateDir, config, signal) => {
    const claimed = await openStateDir({ path: stateDir, log }, signal).catch((error: unknown) => {
      // A living process has it.
      if (error instanceof ConfigError) return null;
      throw error;
    });
    if (claimed === null) return "alive";
    const problems: string[] = [];
    try {
      const journal = await openJournal({ stateDir: claimed, log });
      using limit = deadline(signal, BURY_MS, new Stop("timed_out", "cleaning up after a killed exec"));
      const host = hostPlaces(claimed, context.cwd, context.env);
      const around = { log, host, meter: noMeter, user: undefined };
      for (const { record, notes } of journal.leftovers()) {
        const { stored } = record;
        if (!context.catalog.names.includes(stored.executor)) continue;
        const entry = config?.runners.find(({ executor }) => executor === stored.executor);
        try {
          const executor =
            entry?.openExecutor(around) ??
            (await context.catalog.load(stored.executor)).create(
              {},
              { log, host, meter: noMeter, entry: { ...WITHOUT_ENTRY, killGraceMs } },
            );
          try {
            problems.push(...(await executor.recover(stored.key, notes, limit.signal)).left);
          } finally {
            await closeExecutor(executor);
          }
        } catch (error) {
          problems.push(`${stored.executor}: ${describeError(error)}`);
        }
      }
      await journal.close();
      return problems.length === 0 ? "clean" : { problem: [...new Set(problems)].join("; ") };
    } finally {
      await claimed.close();
    }
  };
}
