import { spawnSync } from "node:child_process";
import { rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { dockerAt, imageName } from "../support/docker.ts";
import { makeImages } from "../support/images.ts";
import { hasDockerd, isRoot, type OwnEngine, ownEngine } from "../support/own-engine.ts";
import { openSite, type Site, type SiteOptions } from "../support/site.ts";

describe("an engine of the test's own", () => {
  if (isRoot && !hasDockerd && process.env.CI === "true") throw new Error("no dockerd: run scripts/setup-tests.sh");
  if (!isRoot || !hasDockerd) {
    test.skip("needs root and dockerd", () => {});
    return;
  }
  const TIMEOUT_MS = 300_000;
  let engine: OwnEngine;
  let site: Site;
  const options = (lines: string): SiteOptions => ({
    dialect: "gitlab",
    executor: "docker",
    // Its data has little room.
    global: 'min_free_disk = "16MiB"',
    entry: `[runners.docker]\nimage = "${imageName("git")}"\nhelper_image = "${imageName("git")}"\npull_policy = "never"\n${lines}`,
  });
  beforeAll(async () => {
    engine = await ownEngine();
    await engine.start();
    await makeImages(dockerAt(engine.host), `own-${process.pid}`, ["git"]);
    site = await openSite(options(`host = "${engine.host}"`));
  }, TIMEOUT_MS);
  afterAll(async () => {
    await site?.close();
    await engine?.dispose();
  }, TIMEOUT_MS);

  const reported = async (job: LocalJob) => await job.reported({ timeoutMs: 150_000 });
  const sleeping = async (): Promise<LocalJob> => {
    const job = site.coordinator.enqueue({ script: ["echo is-$((1+1))-ready; sleep 600"] });
    await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
    return job;
  };
  const works = async (): Promise<void> => {
    const job = site.coordinator.enqueue({ script: ["echo works"] });
    expect((await reported(job)).state, job.trace).toBe("success");
  };
  const untilNothingIsLeft = async (): Promise<void> => {
    const docker = dockerAt(engine.host);
    const filters = { label: ["alloy-runner.job-key"] };
    const left = async () =>
      [...(await docker.listContainers({ all: true, filters })), ...(await docker.listNetworks({ filters }))].length;
    await expect.poll(left, { timeout: 90_000, interval: 300 }).toBe(0);
  };

  test(
    "that stops ends the job with its name, and the next job is asked for once it is back",
    async () => {
      const job = await sleeping();
      await engine.stop("SIGTERM");
      expect(await reported(job)).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
      expect(job.trace).toMatch(/connection to the build container was lost|has ended with status|does not answer/);

      const next = site.coordinator.enqueue({ script: ["true"] });
      await site.runner.seen(/no job of this entry could run: none is asked for .*does not answer/);
      expect(site.runner.stderr()).toContain(engine.host);
      expect(next.status).toBe("pending");

      await engine.start();
      expect((await reported(next)).state, next.trace).toBe("success");
      await untilNothingIsLeft();
    },
    TIMEOUT_MS,
  );

  test(
    "that is killed ends the job, and what it still ran is removed once it is back",
    async () => {
      const job = await sleeping();
      await engine.stop("SIGKILL");
      expect(await reported(job)).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
      await engine.start();
      await works();
      await untilNothingIsLeft();
    },
    TIMEOUT_MS,
  );

  test(
    "that freezes holds a job up and loses nothing of it, and a cancel is carried out when it goes on",
    async () => {
      const counting = site.coordinator.enqueue({
        script: ["i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line-$i; sleep 0.05; done"],
      });
      await counting.traceContains("line-5\n", { timeoutMs: 60_000 });
      engine.signal("SIGSTOP");
      await wait(4000);
      expect(counting.trace).not.toContain("line-60");
      engine.signal("SIGCONT");
      expect((await reported(counting)).state, counting.trace).toBe("success");
      const lines = Array.from({ length: 60 }, (_, index) => `line-${index + 1}`);
      expect(counting.trace.match(/^line-\d+/gm)).toEqual(lines);

      const job = await sleeping();
      engine.signal("SIGSTOP");
      job.cancel();
      await wait(1500);
      engine.signal("SIGCONT");
      await untilNothingIsLeft();
      await works();
    },
    TIMEOUT_MS,
  );

  test(
    "whose disk is full fails the job that filled it; others are asked for when there is room",
    async () => {
      const hungry = site.coordinator.enqueue({ script: ["dd if=/dev/zero of=/fill bs=1M count=500"] });
      expect(await reported(hungry)).toMatchObject({ state: "failed", failureReason: "script_failure" });
      expect(hungry.trace).toMatch(/No space left on device/i);
      await untilNothingIsLeft();

      const filler = join(engine.data, "filler");
      onTestFinished(() => rmSync(filler, { force: true }));
      const { bavail, bsize } = statfsSync(engine.data);
      spawnSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=64k", `count=${Math.ceil((bavail * bsize) / 65536) + 1}`]);
      await site.runner.seen(/the disk of .*\/data is too full/);
      const next = site.coordinator.enqueue({ script: ["true"] });
      expect(next.status).toBe("pending");
      rmSync(filler, { force: true });
      expect((await reported(next)).state, next.trace).toBe("success");
      await untilNothingIsLeft();
    },
    TIMEOUT_MS,
  );

  test.each(["binary", "node"] as const)(
    "is reached by tcp with TLS from the %s, artifacts come and go over it, and the log has no words of others",
    async (runtime) => {
      const entry = `host = "${engine.tcp}"\ntls_verify = true\ntls_cert_path = "${join(engine.dir, "tls")}"`;
      // Closing the site checks each line that the runner wrote on stderr; DEBUG makes many programs write more of
      // them.
      const far = await openSite({ ...options(entry), run: { runtime, env: { DEBUG: "*" } } });
      onTestFinished(async () => await far.close());
      const first = far.coordinator.enqueue({
        script: ["head -c 3000000 /dev/urandom >big", "sha256sum big >sum", "seq 1 20000"],
        artifacts: { paths: ["big", "sum"] },
      });
      expect((await reported(first)).state, first.trace.slice(-3000)).toBe("success");
      expect(first.trace).toMatch(/\n20000\r?\n/);
      const second = far.coordinator.enqueue({ script: ["sha256sum -c sum", "exit 7"], dependencies: [first] });
      expect(await reported(second)).toMatchObject({ state: "failed", exitCode: 7 });
      expect(second.trace).toContain("big: OK");
      await untilNothingIsLeft();
    },
    TIMEOUT_MS,
  );
});
