import type { RunnerConfig } from "../config/config.ts";
import type { RunnerInfo } from "../coordinator/contract.ts";
import type { Log } from "../log.ts";
import type { CommandContext } from "./context.ts";

/** What an entry's job requests say of it. */
export async function runnerInfoOf(entry: RunnerConfig, { cwd }: CommandContext): Promise<RunnerInfo> {
  const executor = entry.openExecutor({ log: silent, workingDirectory: cwd, user: undefined, scratchDir: cwd });
  try {
    return { executor: executor.name, shell: executor.shell, features: executor.features };
  } finally {
    await executor.close();
  }
}

/** It only tells what it is. */
const silent: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => silent };
