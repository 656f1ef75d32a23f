import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runnerId } from "../../src/config/identity.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { type MachineStand, openMachineStand } from "../support/docker-machine/stand.ts";
import { lastTry } from "../support/last-try.ts";
import { openSite, type Site } from "../support/site.ts";

const engine = await testEngine("docker");
const TIMEOUT_MS = 400_000;

describe("jobs on machines with the built program", () => {
  if (engine === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  let stand: MachineStand;
  let site: Site;
  const entryOf = (machine: string): string => `limit = 4
request_concurrency = 3
[runners.docker]
image = "${imageName("git")}"
helper_image = "${imageName("git")}"
pull_policy = "never"
[runners.machine]
MachineDriver = "none"
MachineName = "auto-%s"
${machine}`;
  const global = 'concurrent = 3\nlisten_address = "127.0.0.1:0"';

  beforeAll(async () => {
    await engine.images("git");
    stand = await openMachineStand({ engine: engine.host.slice("unix://".length), addresses: 60 });
    site = await openSite({
      dialect: "gitlab",
      executor: "docker+machine",
      global,
      entry: entryOf("IdleCount = 1\nIdleTime = 600\nMaxBuilds = 3"),
      run: { env: { ...stand.env } },
    });
  }, TIMEOUT_MS);
  afterAll(async () => {
    await site.close();
    const filters = { label: [`com.gitlab.gitlab-runner.runner.id=${runnerId(site.tokens[0] ?? "")}`] };
    for (const one of await engine.docker.listContainers({ all: true, filters })) {
      await engine.docker.getContainer(one.Id).remove({ force: true, v: true });
    }
    for (const one of await engine.docker.listNetworks({ filters })) await engine.docker.getNetwork(one.Id).remove();
    for (const one of (await engine.docker.listVolumes({ filters })).Volumes) {
      await engine.docker.getVolume(one.Name).remove({ force: true });
    }
    await stand[Symbol.asyncDispose]();
  }, TIMEOUT_MS);

  test(
    "a job waits for no machine where one idles, and the runner is killed, machines die, and each job ends once",
    async () => {
      const first = site.coordinator.enqueue({ script: ["echo on a machine"] });
      expect((await first.reported({ timeoutMs: 120_000 })).state).toBe("success");
      expect(first.trace).toMatch(/Using machine runner-\S+-auto-\d+-[0-9a-f]{8}/);

      const jobs = Array.from({ length: 9 }, (_, i) =>
        site.coordinator.enqueue({ script: [`echo job ${i}; sleep 2`] }),
      );
      for (const job of [jobs[1], jobs[4]]) {
        await job?.traceContains("job ");
        await site.runner.stop("SIGKILL");
        await site.start();
      }
      const doomed = site.coordinator.enqueue({ script: ["echo so far; sleep 600"] });
      await doomed.traceContains("so far");
      stand.cut(/Using machine ([\w.-]+)/.exec(doomed.trace)?.[1] ?? "");
      expect((await doomed.reported({ timeoutMs: 120_000 })).state).toBe("failed");
      expect(doomed.trace).toMatch(/so far[\s\S]*is gone/);
      const ended = await Promise.all(jobs.map(lastTry));
      // Those that were running when the runner was killed have failed; the others have not.
      const failed = ended.filter(({ status }) => status !== "success");
      expect(failed.length).toBeLessThanOrEqual(6);
      for (const job of ended)
        expect(job.updates.filter(({ state }) => state === "success" || state === "failed")).toHaveLength(1);
      const last = site.coordinator.enqueue({ script: ["echo still"] });
      expect((await last.reported({ timeoutMs: 120_000 })).state).toBe("success");

      // By a new policy all of them go, and none is left over anywhere.
      await site.configure({ global, entry: entryOf("IdleCount = 0\nIdleTime = 0") });
      site.runner.child.kill("SIGHUP");
      while (stand.machines().length > 0) await wait(100);
      await expect.poll(() => stand.stored(), { timeout: 20_000 }).toEqual([]);
      expect(stand.reports()).toEqual([]);
      expect(site.runner.stderr()).toMatch(/scaling .*remove=\d.*instances=/);
      const [, url = ""] = await site.runner.seen(/serving metrics .*url=(\S+)/);
      const counted = async (what: string): Promise<number> => {
        const text = await (await fetch(url)).text();
        return Number(
          new RegExp(`^alloy_runner_machine_${what}_seconds_count\\{.*\\} (\\d+)$`, "m").exec(text)?.[1] ?? 0,
        );
      };
      for (const what of ["creation", "connection", "removal", "wait"]) {
        await expect.poll(() => counted(what), { message: what, timeout: 20_000 }).toBeGreaterThan(0);
      }
    },
    TIMEOUT_MS,
  );
});
