import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Figure, median, withScene } from "./scene.ts";

const ROUNDS = 30;

/**
 * The time that the custom executor itself adds to a job: a driver that only starts the script, compared with the shell
 * executor.
 */
export async function customJobs(): Promise<readonly Figure[]> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-bench-driver-"));
  try {
    const driver = join(dir, "run");
    await writeFile(driver, '#!/bin/sh\nexec "$1"\n', { mode: 0o755 });
    const measure = async (executor: string, entry: string): Promise<number> =>
      await withScene({ dialect: "gitlab", executor, entry }, async ({ coordinator }) => {
        const times: number[] = [];
        for (let round = 0; round <= ROUNDS; round++) {
          const job = coordinator.enqueue({ script: ["true"], variables: { GIT_STRATEGY: "none" } });
          const update = await job.reported({ timeoutMs: 60_000 });
          if (update.state !== "success") throw new Error(`the job failed:\n${job.trace}`);
          if (round > 0) times.push(update.at - (job.pickedUpAt ?? 0));
        }
        return median(times);
      });
    const shell = await measure("shell", "");
    const custom = await measure("custom", `builds_dir = "${dir}/builds"\n[runners.custom]\nrun_exec = "${driver}"`);
    return [
      {
        name: "custom job over the shell executor's, median",
        value: custom - shell,
        unit: "ms",
        target: 60,
        bound: "at most",
      },
    ];
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
