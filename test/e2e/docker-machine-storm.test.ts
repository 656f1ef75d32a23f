import { setTimeout as wait } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { runnerId } from "../../src/config/identity.ts";
import type { LocalJob } from "../../src/local/coordinator/coordinator.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { openMachineStand } from "../support/docker-machine/stand.ts";
import { lastTry } from "../support/last-try.ts";
import { openSite } from "../support/site.ts";

/** 200 jobs over machines that come, go, die and lie, and a runner that is killed five times, with the built program. */

const JOBS = 200;
const KILLS = 5;
const AT_ONCE = 8;
const TIMEOUT_MS = 900_000;

const engine = await testEngine("docker");

/** Of a machine's address: which of them cannot be made, are half made, or are said to be there and are not. */
const MISFORTUNES = {
  create: "case $((number % 20)) in 3) echo 'no capacity' >&2; exit 1 ;; 7) exit 0 ;; esac",
  provision: "[ $((number % 20)) -ne 11 ] || { echo 'Error creating machine: no SSH' >&2; exit 1; }",
  url: "[ $((RANDOM_NUMBER)) -ne 0 ] || { echo 'the cloud is asleep' >&2; exit 1; }",
  rm: "[ $((RANDOM_NUMBER)) -ne 0 ] || problem='the cloud is asleep'",
} as const;
const FOURTH = "0x$(head -c 1 /dev/urandom | od -An -tx1 | tr -d ' ') % 4";

test.skipIf(engine === null)(
  `each job ends once, and no machine is left${engine === null ? `: ${noEngine("docker")}` : ""}`,
  {
    timeout: TIMEOUT_MS,
  },
  async () => {
    if (engine === null) return;
    await engine.images("git");
    const stand = await openMachineStand({ engine: engine.host.slice("unix://".length), addresses: 40 });
    onTestFinished(() => stand[Symbol.asyncDispose]());
    for (const command of ["create", "provision", "url", "rm"] as const) {
      stand.on(command, MISFORTUNES[command].replace("RANDOM_NUMBER", FOURTH));
    }
    const entryOf = (machine: string): string => `limit = 14
request_concurrency = 4
[runners.docker]
image = "${imageName("git")}"
helper_image = "${imageName("git")}"
pull_policy = "never"
disable_cache = true
network_mode = "none"
[runners.machine]
MachineDriver = "none"
MachineName = "storm-%s"
MaxBuilds = 15
${machine}`;
    const global = `concurrent = ${AT_ONCE}`;
    const site = await openSite({
      dialect: "gitlab",
      executor: "docker+machine",
      global,
      entry: entryOf("IdleCount = 4\nIdleScaleFactor = 0.5\nIdleCountMin = 2\nIdleTime = 1"),
      run: { env: { ...stand.env } },
    });
    onTestFinished(async () => {
      await site.close();
      const filters = { label: [`com.gitlab.gitlab-runner.runner.id=${runnerId(site.tokens[0] ?? "")}`] };
      for (const one of await engine.docker.listContainers({ all: true, filters })) {
        await engine.docker.getContainer(one.Id).remove({ force: true, v: true });
      }
      for (const one of await engine.docker.listNetworks({ filters })) await engine.docker.getNetwork(one.Id).remove();
      for (const one of (await engine.docker.listVolumes({ filters })).Volumes) {
        await engine.docker.getVolume(one.Name).remove({ force: true });
      }
    });
    const jobs = Array.from({ length: JOBS }, (_, index) =>
      site.coordinator.enqueue({ variables: { GIT_STRATEGY: "none" }, script: [`echo job ${index}`] }),
    );
    /** A job, and those that took its place where its runner died before it had said that it has it. */
    const triesOf = (job: LocalJob): LocalJob[] =>
      job.retriedAs === undefined ? [job] : [job, ...triesOf(job.retriedAs)];
    const endsOf = (job: LocalJob): string[] =>
      triesOf(job).flatMap(({ updates }) =>
        updates.map(({ state }) => state).filter((state) => state === "success" || state === "failed"),
      );
    const ended = (): number => jobs.filter((job) => endsOf(job).length > 0).length;
    let deaths = 0;
    for (let round = 1; round <= KILLS; round++) {
      const goal = (JOBS * round) / (KILLS + 1);
      while (ended() < goal) {
        await wait(100);
        // One under a job, shortly before each kill; all of them have power again when the runner is back.
        if (deaths >= round || ended() < goal - 15) continue;
        const running = jobs.findLast((job) => endsOf(job).length === 0 && /Using machine/.test(job.trace));
        const name = /Using machine ([\w.-]+)/.exec(running?.trace ?? "")?.[1] ?? "";
        if (!stand.machines().includes(name)) continue;
        stand.cut(name);
        deaths++;
      }
      await site.runner.stop("SIGKILL");
      stand.mend();
      await site.start();
    }
    await Promise.all(jobs.map(lastTry));
    for (const job of jobs) expect(endsOf(job)).toHaveLength(1);
    const failed = jobs.filter((job) => endsOf(job)[0] === "failed");
    expect(failed.length).toBeLessThanOrEqual(KILLS * AT_ONCE + deaths);
    expect(deaths).toBeGreaterThan(0);

    await site.configure({ global, entry: entryOf("IdleCount = 0\nIdleTime = 0") });
    site.runner.child.kill("SIGHUP");
    await expect
      .poll(() => ({ there: stand.machines(), stored: stand.stored() }), { timeout: 120_000 })
      .toEqual({ there: [], stored: [] });
    expect(stand.calls().filter((call) => call.startsWith("create")).length).toBeGreaterThan(JOBS / 15);
  },
);
