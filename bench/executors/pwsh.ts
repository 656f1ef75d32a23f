import { spawnSync } from "node:child_process";
import type { JobSpec } from "../../src/local/coordinator/jobs/job.ts";
import { pwshFolder } from "../../test/support/pwsh.ts";
import { type Figure, median, withRepository, withScene } from "../scene.ts";

const ROUNDS = 9;

/**
 * Measures jobs whose shell is PowerShell in multiples of a bare start of it. The machine decides what a start costs;
 * the runner decides how many a job needs, and how much is done in each. Each round measures all kinds and a bare
 * start, so that a busy moment meets them alike.
 */
export async function pwshJobs(): Promise<readonly Figure[]> {
  if (pwshFolder() === null) {
    process.stderr.write("no pwsh on PATH: its jobs are left out\n");
    return [];
  }
  return await withRepository(50, async (git) => {
    return await withScene({ dialect: "gitlab", entry: 'shell = "pwsh"' }, async ({ coordinator }) => {
      const kinds: readonly (readonly [name: string, target: number, spec: JobSpec])[] = [
        ["without sources", 1.5, { script: ["'hello'"], variables: { GIT_STRATEGY: "none" } }],
        ["with a fetch", 1.8, { script: ["'hello'"], git }],
        [
          "with a fetch, cache, artifact and after_script",
          3.2,
          {
            script: ["'hello'"],
            afterScript: ["'goodbye'"],
            git,
            cache: [{ key: "bench", paths: ["file-1"], policy: "pull-push", untracked: false }],
            artifacts: [{ name: "bench", paths: ["file-2"] }],
          },
        ],
      ];
      const bare: number[] = [];
      const jobs = kinds.map((): number[] => []);
      for (let round = 0; round <= ROUNDS; round++) {
        const begin = performance.now();
        spawnSync("pwsh", ["-NoProfile", "-Command", "exit 0"], { stdio: "ignore" });
        // The first round pays for reading the files, for the clone and for detecting the machine's properties.
        if (round > 0) bare.push(performance.now() - begin);
        for (const [index, [, , spec]] of kinds.entries()) {
          const job = coordinator.enqueue(spec);
          const update = await job.reported({ timeoutMs: 120_000 });
          if (update.state !== "success") throw new Error(`the job failed:\n${job.trace}`);
          if (round > 0) jobs[index]?.push(update.at - (job.pickedUpAt ?? 0));
        }
      }
      return kinds.map(([name, target], index) => ({
        name: `pwsh job ${name}, median`,
        value: median(jobs[index] ?? []) / median(bare),
        unit: "bare starts",
        target,
        bound: "at most",
      }));
    });
  });
}
