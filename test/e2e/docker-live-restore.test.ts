import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dockerAt, imageName } from "../support/docker.ts";
import { AWAY, crash, openDurableSite } from "../support/durable-site.ts";
import { makeImages } from "../support/images.ts";
import { hasDockerd, isRoot, type OwnEngine, ownEngine } from "../support/own-engine.ts";

describe("an engine with live-restore", () => {
  if (isRoot && !hasDockerd && process.env.CI === "true") throw new Error("no dockerd: run scripts/setup-tests.sh");
  if (!isRoot || !hasDockerd) {
    test.skip("needs root and dockerd", () => {});
    return;
  }
  const TIMEOUT_MS = 240_000;
  let engine: OwnEngine;
  beforeAll(async () => {
    engine = await ownEngine("--live-restore");
    await engine.start();
    await makeImages(dockerAt(engine.host), `live-${process.pid}`, ["git"]);
  }, TIMEOUT_MS);
  afterAll(async () => await engine?.dispose(), TIMEOUT_MS);

  const LINES = 400;
  const COUNT = `n=0; while [ $n -lt ${LINES} ]; do n=$((n + 1)); echo "line-$n hush-4711-hush"; sleep 0.05; done`;

  test(
    "that is stopped, killed and started costs a durable job nothing, with its runner killed as well",
    async () => {
      const site = await openDurableSite({
        dialect: "gitlab",
        executor: "docker",
        global: 'min_free_disk = "16MiB"',
        entry: `[runners.docker]
host = "${engine.host}"
image = "${imageName("git")}"
helper_image = "${imageName("git")}"
pull_policy = "never"`,
      });
      const job = site.coordinator.enqueue({
        script: [COUNT, "exit 7"],
        afterScript: ["echo after: $CI_JOB_STATUS"],
        variables: [{ key: "SECRET", value: "hush-4711-hush", masked: true, public: false }],
      });
      await job.traceContains("line-5 ", { timeoutMs: 90_000 });
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        await engine.stop(signal);
        await wait(1000);
        await engine.start();
      }
      await job.traceContains("line-100 ", { timeoutMs: 60_000 });
      await engine.stop("SIGTERM");
      await crash(site);
      await engine.start();
      await site.start();
      const { state, exitCode } = await job.reported({ timeoutMs: 120_000 });
      expect([state, exitCode], job.trace).toEqual(["failed", 7]);
      const lines = Array.from({ length: LINES }, (_, index) => `line-${index + 1} [MASKED]`);
      expect(job.trace.match(/^line-.*$/gm)).toEqual(lines);
      expect(job.trace).toContain("after: failed");
      expect(job.trace.match(AWAY)).toHaveLength(1);
    },
    TIMEOUT_MS,
  );
});
