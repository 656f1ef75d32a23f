import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { CommandContext } from "../commands/context.ts";
import { type FlagValues, textOf } from "../commands/register/runner-flags.ts";
import { toolRunner } from "../commands/service/perform.ts";
import { isStopping } from "../commands/service/systemd.ts";
import { CommandError, describeError, Stop } from "../errors.ts";
import { noMeter } from "../executor/deps.ts";
import type { LeftoverJob } from "../journal/contract.ts";
import { openJournal } from "../journal/records/journal.ts";
import { deadline } from "../time.ts";
import { holding } from "./held.ts";
import { type Cleaners, createCleaners } from "./services/cleaners.ts";

/** How long the jobs of a service that has stopped may take to end. */
const END_MS = 60_000;

/**
 * `end-jobs`: called by systemd whenever the runner's process has ended. After a stop it ends what that has left running, and the
 * next start of the runner reports it; after a crash and in a restart the next process goes on with it, and nothing is done here.
 */
export async function runEndJobs(values: FlagValues, context: CommandContext): Promise<void> {
  const unit = textOf(values, "unit");
  if (unit === undefined) throw new CommandError("--unit names the unit of systemd that has ended");
  const scope = values.userService === true ? "user" : "system";
  if (!(await isStopping({ unit, scope }, toolRunner(context.env), context.signal))) return;
  await holding(values, context, "info", async ({ config, stateDir, host, log }) => {
    const journal = await openJournal({ stateDir, log });
    const cleaners = createCleaners({
      catalog: context.catalog,
      runners: () => config.runners,
      around: () => ({ log, host, meter: noMeter, user: config.user }),
    });
    using limit = deadline(context.signal, END_MS, new Stop("timed_out", `took longer than ${END_MS / 1000} s`));
    const running = journal.leftovers().filter(({ record }) => record.report === null);
    for (const job of running) {
      const { id, title } = job.record.stored;
      const said = await endJob(job, cleaners, limit.signal).catch((error: unknown) => [describeError(error)]);
      log.info(`job ${id} (${title}) is ended with the service; the next start reports it`, { what: said.join("; ") });
    }
    await cleaners.close(log);
    await journal.close();
  });
}

async function endJob({ record, notes }: LeftoverJob, cleaners: Cleaners, signal: AbortSignal): Promise<string[]> {
  // Without it nobody goes on with the job, and nothing secret of it stays.
  await rm(join(record.dir, "payload"), { force: true });
  const executor = await cleaners.executorFor(record.stored);
  if (executor === null) return [`there is no executor "${record.stored.executor}"`];
  const { done, left } = await executor.recover(record.stored.key, notes, signal);
  return [...done, ...left];
}
