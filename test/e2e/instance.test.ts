import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type CloudStand, openCloudStand } from "../support/cloud/stand.ts";
import { lastTry } from "../support/last-try.ts";
import { openSite, type Site } from "../support/site.ts";
import { sshdMissing } from "../support/sshd.ts";

const missing = sshdMissing();
const TIMEOUT_MS = 300_000;

describe("jobs on instances with the built program", () => {
  if (missing !== null) {
    test.skip(`needs sshd: ${missing}`, () => {});
    return;
  }
  let dir: string;
  let cloud: CloudStand;
  let site: Site;
  const entryOf = (policy: string): string => `request_concurrency = 3
[runners.autoscaler]
plugin = "exec"
capacity_per_instance = 2
max_use_count = 20
update_interval = "1s"
update_interval_when_expecting = "200ms"
instance_ready_command = "git --version"
[runners.autoscaler.plugin_config]
command = "${cloud.config.command}"
dir = "${cloud.config.dir}"
[[runners.autoscaler.policy]]
${policy}`;
  const global = "concurrent = 4";

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "alloy-cloud-"));
    cloud = await openCloudStand(dir, 5);
    site = await openSite({
      dialect: "gitlab",
      executor: "instance",
      global,
      entry: entryOf('idle_count = 2\nidle_time = "10m"'),
    });
  }, TIMEOUT_MS);
  afterAll(async () => {
    await site?.close();
    await cloud.close();
    rmSync(dir, { recursive: true, force: true });
  }, TIMEOUT_MS);

  test(
    "the runner is killed, instances die, the cloud fails for a while, and each job ends once",
    async () => {
      const first = site.coordinator.enqueue({ script: ["echo on an instance"] });
      expect((await first.reported({ timeoutMs: 60_000 })).state).toBe("success");
      expect(first.trace).toMatch(/Using instance i-\d-h\d/);

      const jobs = Array.from({ length: 12 }, (_, i) =>
        site.coordinator.enqueue({ script: [`echo job ${i}; sleep 1`] }),
      );
      for (const job of [jobs[1], jobs[4]]) {
        await job?.traceContains("job ");
        await site.runner.stop("SIGKILL");
        await site.start();
      }
      const doomed = site.coordinator.enqueue({ script: ["echo so far; sleep 600"] });
      await doomed.traceContains("so far");
      cloud.trouble("list", "refuse");
      await cloud.lose(/Using instance ([\w.-]+)/.exec(doomed.trace)?.[1] ?? "");
      expect((await doomed.reported({ timeoutMs: 60_000 })).state).toBe("failed");
      expect(doomed.trace).toMatch(/so far[\s\S]*is gone/);
      cloud.trouble("list", null);
      const ended = await Promise.all(jobs.map(lastTry));
      // Those that were running when the runner was killed, or where an instance died, have failed; the others have not.
      expect(ended.filter(({ status }) => status === "success").length).toBeGreaterThan(0);
      for (const job of ended)
        expect(job.updates.filter(({ state }) => state === "success" || state === "failed")).toHaveLength(1);
      const last = site.coordinator.enqueue({ script: ["echo still"] });
      expect((await last.reported({ timeoutMs: 60_000 })).state).toBe("success");

      // By a new policy all of them go.
      await site.configure({ global, entry: entryOf("idle_time = 0") });
      site.runner.child.kill("SIGHUP");
      while (cloud.instances().length > 0) await wait(100);
      expect(site.runner.stderr()).toMatch(/scaling .*remove=\d.*instances=/);
    },
    TIMEOUT_MS,
  );
});
