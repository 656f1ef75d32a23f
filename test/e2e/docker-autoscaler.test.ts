import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runnerId } from "../../src/config/identity.ts";
import { type CloudStand, openCloudStand } from "../support/cloud/stand.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { lastTry } from "../support/last-try.ts";
import { openSite, type Site } from "../support/site.ts";
import { sshdMissing } from "../support/sshd.ts";

const engine = await testEngine("docker");
const missing = sshdMissing();
const TIMEOUT_MS = 400_000;

describe("docker jobs on instances with the built program", () => {
  if (engine === null || missing !== null) {
    test.skip(missing === null ? noEngine("docker") : `needs sshd: ${missing}`, () => {});
    return;
  }
  let dir: string;
  let cloud: CloudStand;
  let site: Site;
  const entryOf = (policy: string): string => `request_concurrency = 2
[runners.docker]
host = "${engine.host}"
image = "${imageName("git")}"
helper_image = "${imageName("git")}"
pull_policy = "never"
[runners.autoscaler]
plugin = "exec"
capacity_per_instance = 2
update_interval = "1s"
update_interval_when_expecting = "200ms"
[runners.autoscaler.plugin_config]
command = "${cloud.config.command}"
dir = "${cloud.config.dir}"
[[runners.autoscaler.policy]]
${policy}`;
  const global = "concurrent = 2";

  beforeAll(async () => {
    await engine.images("git");
    dir = mkdtempSync(join(tmpdir(), "alloy-cloud-"));
    cloud = await openCloudStand(dir, 4, { root: true });
    site = await openSite({
      dialect: "gitlab",
      executor: "docker-autoscaler",
      global,
      entry: entryOf('idle_count = 2\nidle_time = "10m"'),
    });
  }, TIMEOUT_MS);
  afterAll(async () => {
    await site?.close();
    await cloud.close();
    rmSync(dir, { recursive: true, force: true });
    const filters = { label: [`com.gitlab.gitlab-runner.runner.id=${runnerId(site.tokens[0] ?? "")}`] };
    for (const one of await engine.docker.listContainers({ all: true, filters })) {
      await engine.docker.getContainer(one.Id).remove({ force: true, v: true });
    }
    for (const one of await engine.docker.listNetworks({ filters })) await engine.docker.getNetwork(one.Id).remove();
    for (const one of (await engine.docker.listVolumes({ filters })).Volumes) {
      await engine.docker.getVolume(one.Name).remove({ force: true });
    }
  }, TIMEOUT_MS);

  test(
    "the runner is killed, an instance dies, and each job ends once",
    async () => {
      const jobs = Array.from({ length: 5 }, (_, i) =>
        site.coordinator.enqueue({ script: [`echo job ${i}; sleep 1; cat /etc/hostname`] }),
      );
      await jobs[0]?.traceContains("job ");
      expect(jobs[0]?.trace).toMatch(/Using instance i-\d-h\d/);
      await site.runner.stop("SIGKILL");
      await site.start();
      const ended = await Promise.all(jobs.map(lastTry));
      expect(ended.filter(({ status }) => status === "success").length).toBeGreaterThan(2);
      for (const job of ended)
        expect(job.updates.filter(({ state }) => state === "success" || state === "failed")).toHaveLength(1);
      const doomed = site.coordinator.enqueue({ script: ["echo so far; sleep 600"] });
      await doomed.traceContains("so far");
      await cloud.lose(/Using instance ([\w.-]+)/.exec(doomed.trace)?.[1] ?? "");
      expect((await doomed.reported({ timeoutMs: 120_000 })).state).toBe("failed");
      expect(doomed.trace).toMatch(/so far[\s\S]*is gone/);
      const last = site.coordinator.enqueue({ script: ["echo still"] });
      expect((await last.reported({ timeoutMs: 120_000 })).state).toBe("success");
      await site.configure({ global, entry: entryOf("idle_time = 0") });
      site.runner.child.kill("SIGHUP");
      while (cloud.instances().length > 0) await wait(100);
    },
    TIMEOUT_MS,
  );
});
