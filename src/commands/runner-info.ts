import type { RunnerConfig } from "../config/config.ts";
import type { RunnerInfo } from "../coordinator/contract.ts";
import { noMeter } from "../executor/deps.ts";
import type { Log } from "../log.ts";
import { closeExecutor } from "../poll/close-executor.ts";
import type { CommandContext } from "./context.ts";

/** What an entry's job requests say of it. */
export async function runnerInfoOf(entry: RunnerConfig, { cwd, env }: CommandContext): Promise<RunnerInfo> {
  const executor = entry.openExecutor({
    log: silent,
    host: { working: cwd, scratch: cwd, keepDir: cwd, env },
    meter: noMeter,
    user: undefined,
  });
  try {
    return { executor: executor.name, shell: executor.shell, features: executor.features, labels: entry.labels };
  } finally {
    await closeExecutor(executor);
  }
}

/** This executor is only asked what it can do, so it has nothing to log. */
const silent: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => silent };
