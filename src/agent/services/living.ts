import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type CommandContext, loadOptions } from "../../commands/context.ts";
import type { Config, RunnerConfig } from "../../config/config.ts";
import { describeError } from "../../errors.ts";
import type { Buried } from "../../job/life/received.ts";
import type { Journal, LeftoverJob, Outbox } from "../../journal/contract.ts";
import { bury, type RecoveryOptions } from "../../journal/delivery/recover.ts";
import type { Log } from "../../log.ts";
import type { EntryJob } from "../../poll/reception.ts";
import { never } from "../../time.ts";

export interface LivingOptions {
  readonly journal: Journal;
  readonly outbox: Outbox;
  readonly executorFor: RecoveryOptions["executorFor"];
  readonly liveKey: () => Promise<Buffer | null>;
  readonly config: Pick<Config, "runners" | "user">;
  readonly context: CommandContext;
  readonly log: Log;
}

/** What the last process left running and can be gone on with: all else of its jobs has died. */
export async function findLiving(options: LivingOptions): Promise<EntryJob[]> {
  const { journal, log } = options;
  const left = journal
    .leftovers()
    .filter(({ record }) => record.report === null && record.stored.boot === journal.boot && journal.boot !== "")
    .filter(({ record }) => existsSync(join(record.dir, "life")));
  if (left.length === 0) return [];
  const looks = left.map(async (leftover) => {
    try {
      return (await look(leftover, options)) ?? [];
    } catch (error) {
      const { id } = leftover.record.stored;
      log.warn("a job of the last process cannot be gone on with", { job: id, problem: describeError(error) });
      return [];
    }
  });
  return (await Promise.all(looks)).flat();
}

async function look(leftover: LeftoverJob, options: LivingOptions): Promise<EntryJob | null> {
  const { record, diedAt } = leftover;
  // Its end has been written into its trace.
  if (diedAt !== null) return null;
  const { lookAtLife } = await import("../../job/life/durable/look.ts");
  const { key, runner } = record.stored;
  const found = await lookAtLife(record.dir, key, await options.liveKey(), runner.token);
  if (found.is !== "whole") return null;
  const entry = await entryOf(leftover, found.kept.entry, options);
  return {
    entry,
    found: {
      leftover,
      life: found.kept,
      bury: async (why) => await buryLiving(leftover, why, options),
    },
  };
}

/** The entry of today, if it is still as it was when the job began; else as it was then. */
async function entryOf(
  { record }: LeftoverJob,
  written: string,
  { config, context }: LivingOptions,
): Promise<RunnerConfig> {
  const { token, id, certsDir } = record.stored.runner;
  const same = config.runners.find((one) => one.written === written && one.token === token && one.id === id);
  if (same?.durable === true) return same;
  const { entryWritten } = await import("../../config/entry/written.ts");
  const options = loadOptions(context, process.cwd());
  return await entryWritten(written, { options, token, user: config.user, certsDir });
}

async function buryLiving(
  leftover: LeftoverJob,
  why: string,
  { journal, outbox, executorFor, log }: LivingOptions,
): Promise<Buried> {
  const lookAt: RecoveryOptions["lookAt"] = async ({ dir }) => {
    await rm(join(dir, "payload"), { force: true });
    return why;
  };
  try {
    const buried = await bury(leftover, { journal, executorFor, log, lookAt }, never, never);
    return { delivered: outbox.adopt(buried).catch(() => "kept") };
  } catch (error) {
    const { id } = leftover.record.stored;
    log.error(`cannot recover job ${id}, it is left to the next start`, { job: id, problem: describeError(error) });
    return { delivered: Promise.resolve("kept") };
  }
}
