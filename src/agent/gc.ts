import type { LocalContext } from "../commands/context.ts";
import { gcCommand } from "../commands/control/gc.ts";
import type { FlagValues } from "../commands/register/runner-flags.ts";
import { noMeter } from "../executor/deps.ts";
import { closeExecutor } from "../poll/close-executor.ts";
import { createHousekeeper } from "../poll/housekeeping.ts";
import { holding } from "./held.ts";

/** `gc`. Without a running runner it holds the state directory meanwhile, so that none begins. */
export async function runGc(values: FlagValues, context: LocalContext): Promise<void> {
  await gcCommand(values, context, (dry) =>
    holding(values, context, "warn", async ({ config, host, log }) => {
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
      }
    }),
  );
}
