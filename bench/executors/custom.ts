import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Figure, medianMs, withScene } from "../scene.ts";

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
      await withScene({ dialect: "gitlab", executor, entry }, (scene) => medianMs(scene, ROUNDS));
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
