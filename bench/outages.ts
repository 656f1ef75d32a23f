import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { start } from "../test/support/program.ts";
import { type Figure, withScene } from "./scene.ts";

/** 200 results that pile up while the coordinator is away, delivered when it is back. */
export async function outbox(): Promise<readonly Figure[]> {
  return await withScene({ dialect: "alloy", concurrent: 20 }, async ({ coordinator }) => {
    const jobs = Array.from({ length: 200 }, () => coordinator.enqueue({ script: ["echo result"] }));
    coordinator.intercept = ({ endpoint }) =>
      endpoint === "job_request" ? undefined : { kind: "status", status: 503 };
    await Promise.all(jobs.map((job) => job.running({ timeoutMs: 60_000 })));
    await wait(60_000);
    coordinator.intercept = undefined;
    const begin = performance.now();
    await Promise.all(jobs.map((job) => job.finished({ timeoutMs: 120_000 })));
    return [
      {
        name: "outbox: 200 results after a 60 s outage, back → last delivered",
        value: (performance.now() - begin) / 1000,
        unit: "s",
        target: 60,
        bound: "at most",
      },
    ];
  });
}

/** A runner that was killed with 50 jobs at work: from its next start to the last of them reported. */
export async function recovery(): Promise<readonly Figure[]> {
  return await withScene({ dialect: "alloy", concurrent: 50 }, async ({ coordinator, runner, dir }) => {
    const jobs = Array.from({ length: 50 }, () => coordinator.enqueue({ script: ["echo started", "sleep 600"] }));
    await Promise.all(jobs.map((job) => job.traceContains("started", { timeoutMs: 60_000 })));
    await runner.stop("SIGKILL");
    await mkdir(join(dir, "work"), { recursive: true });
    const begin = performance.now();
    const next = start(["run", "--config", join(dir, "config.toml"), "--working-directory", join(dir, "work")], {
      home: dir,
    });
    try {
      await Promise.all(jobs.map((job) => job.finished({ timeoutMs: 120_000 })));
      return [
        {
          name: "recovery with 50 journal entries, start → last reported",
          value: (performance.now() - begin) / 1000,
          unit: "s",
          target: 60,
          bound: "at most",
        },
      ];
    } finally {
      await next.stop("SIGTERM");
    }
  });
}
