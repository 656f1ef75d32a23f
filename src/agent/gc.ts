import { configFileOf, type LocalContext, loadOptions } from "../commands/context.ts";
import { gcCommand } from "../commands/control/gc.ts";
import { type FlagValues, textOf } from "../commands/register/runner-flags.ts";
import { loadConfig } from "../config/load.ts";
import { noMeter } from "../executor/deps.ts";
import type { Tidied } from "../executor/keeping.ts";
import { openStateDir } from "../journal/state/state-dir.ts";
import { createLog, streamOutput } from "../log.ts";
import { closeExecutor } from "../poll/close-executor.ts";
import { createHousekeeper } from "../poll/housekeeping.ts";
import { hostPlaces } from "./surroundings.ts";

/** `gc`. Without a running runner it holds the state directory meanwhile, so that none begins. */
export async function runGc(values: FlagValues, context: LocalContext): Promise<void> {
  await gcCommand(values, context, async (dry): Promise<readonly Tidied[]> => {
    const log = createLog({
      level: "warn",
      format: "text",
      output: streamOutput(process.stderr, (count) => `${count} lines of the log were dropped\n`),
      colors: false,
    });
    const config = await loadConfig(configFileOf(textOf(values, "config"), context), loadOptions(context));
    const stateDir = await openStateDir({ path: config.stateDir, log }, context.signal);
    const host = hostPlaces(stateDir, context.cwd, context.env);
    const executors = config.runners.map((entry) =>
      entry.openExecutor({ log, host, meter: noMeter, user: config.user }),
    );
    const housekeeper = createHousekeeper({
      budgets: () => config.housekeeping,
      executors: () => executors,
      isBusy: () => true,
      freed: () => {},
      log,
    });
    try {
      return await housekeeper.tidy(dry, context.signal);
    } finally {
      await housekeeper.close();
      for (const executor of executors) await closeExecutor(executor);
      await stateDir.close();
    }
  });
}
