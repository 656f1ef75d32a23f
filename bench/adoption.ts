import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { footprint } from "../test/support/memory.ts";
import { type Running, start } from "../test/support/program.ts";
import { type Figure, withScene } from "./scene.ts";

const JOBS = 50;

/** Seconds until the log has said so `JOBS` times, from now on. */
async function untilFollowed(running: Running): Promise<number> {
  const begin = performance.now();
  for (let from = 0, count = 0; count < JOBS; count++) {
    const { index } = await running.seen(/a job of an earlier process goes on/, { from, timeoutMs: 120_000 });
    from += index + 1;
  }
  return (performance.now() - begin) / 1000;
}

/** A killed runner with fifty durable jobs, and the one that comes after it. */
export async function adoption(): Promise<readonly Figure[]> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-bench-adoption-"));
  const [keyFile, go] = [join(dir, "key"), join(dir, "go")];
  writeFileSync(keyFile, randomBytes(32), { mode: 0o600 });
  try {
    return await withScene(
      { dialect: "gitlab", concurrent: JOBS, global: `durable = true\nlive_key_file = "${keyFile}"` },
      async ({ coordinator, runner, dir: home }) => {
        const script = ["echo begun", `until [ -e ${go} ]; do sleep 1; done`];
        const jobs = Array.from({ length: JOBS }, () =>
          coordinator.enqueue({ script, variables: { GIT_STRATEGY: "none" } }),
        );
        for (const job of jobs) await job.traceContains("begun", { timeoutMs: 120_000 });
        const before = footprint(runner.pid).residentMb;
        await runner.stop("SIGKILL");
        const words = ["run", "--config", join(home, "config.toml"), "--working-directory", join(home, "work")];
        const next = start(words, { home });
        try {
          const seconds = await untilFollowed(next);
          const after = footprint(next.pid).residentMb;
          writeFileSync(go, "");
          await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 120_000 })));
          return [
            {
              name: `${JOBS} jobs adopted, from the start of the process`,
              value: seconds,
              unit: "s",
              target: 2,
              bound: "at most",
            },
            {
              name: "memory of the process with them, over that of the one which began them",
              value: after / before,
              unit: "times",
              target: 1.1,
              bound: "at most",
            },
          ];
        } finally {
          await next.stop();
        }
      },
    );
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
