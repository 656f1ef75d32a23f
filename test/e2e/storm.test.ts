import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { MEMORY, runPlaces } from "../../executors/shell/places/run-rooms.ts";
import { runnerId } from "../../src/config/identity.ts";
import { imageName, noEngine, type TestEngine, testEngine } from "../support/docker.ts";
import { openDurableSite } from "../support/durable-site.ts";
import type { Site } from "../support/site.ts";
import { loginUser, sshdMissing, startSshd } from "../support/sshd.ts";
import { type Counts, STORM_SWITCHES, type StormJob, storm, stormWork, told, undisturbed } from "../support/storm.ts";

const onLinux = process.platform === "linux" && process.geteuid?.() === 0;
const engine = await testEngine("docker");
const withoutSsh = sshdMissing();
/** Seconds of killing over all kinds of places; a night may have more, and as many more jobs. */
const SECONDS = Number(process.env.ALLOY_TEST_STORM ?? 55);

/** What a kill has left of a job that had been reported goes with the next one. */
async function nothingStays(here: Site, runnerToken: string): Promise<void> {
  await here.start();
  const last = here.coordinator.enqueue({ script: ["true"], runnerToken });
  await last.finished();
  await expect.poll(() => readdirSync(join(here.stateDir, "jobs")), { timeout: 30_000 }).toEqual([]);
  await here.runner.stop();
  const ours = here.tokens.map((token) => `alloy-${runnerId(token)}-`);
  const groups = spawnSync("find", ["/sys/fs/cgroup", "-type", "d"], { encoding: "utf8" }).stdout.split("\n");
  expect(groups.filter((path) => ours.some((prefix) => path.includes(`/${prefix}`)))).toEqual([]);
  for (const place of runPlaces(here.stateDir, MEMORY)) expect(existsSync(place) ? readdirSync(place) : []).toEqual([]);
}

describe.runIf(onLinux)("a storm of jobs in several kinds of places", () => {
  test.skipIf(withoutSsh !== null || engine === null)(
    `over shell, ssh and docker${withoutSsh !== null ? ` (not here: ${withoutSsh})` : engine === null ? ` (not here: ${noEngine("docker")})` : ""}`,
    { timeout: 6 * SECONDS * 1000 + 120_000 },
    async () => {
      if (engine !== null) await overAll(engine);
    },
  );
});

/** Two hundred jobs for each minute. */
async function overAll({ host, docker, images }: TestEngine): Promise<void> {
  await images("git");
  const sshd = await startSshd({ config: "MaxStartups 200\nMaxSessions 200" });
  onTestFinished(() => sshd.close());
  const user = loginUser(sshd);
  const here = await openDurableSite({
    ...{ dialect: "gitlab", entries: 3, stopped: true },
    ...STORM_SWITCHES,
  });
  const { coordinator, tokens, configFile, dir } = here;
  const shared = await mkdtemp(join(tmpdir(), "alloy-storm-"));
  onTestFinished(() => rm(shared, { recursive: true, force: true }));
  await chmod(shared, 0o777);
  const ours = join(dir, "shell-counts");
  mkdirSync(ours);
  const entries = [
    'executor = "shell"\ndurable = true',
    `executor = "ssh"\ndurable = true\nbuilds_dir = "${join(user.home, "builds")}"
[runners.ssh]
host = "127.0.0.1"
port = ${sshd.port}
user = "${user.name}"
identity_file = "${sshd.keyFile}"
known_hosts_file = "${sshd.knownHostsFile}"`,
    `executor = "docker"\ndurable = true
[runners.docker]
host = "${host}"
image = "${imageName("git")}"
helper_image = "${imageName("git")}"
pull_policy = "never"
volumes = ["${shared}:/counts"]`,
  ];
  const head = readFileSync(configFile, "utf8").split("[[runners]]")[0];
  const tables = entries.map(
    (lines, n) =>
      `[[runners]]\nname = "runner-${n}"\nurl = "${coordinator.url}"\ntoken = "${tokens[n]}"\nlimit = ${[6, 5, 2][n]}\n${lines}\n`,
  );
  writeFileSync(configFile, `concurrent = 12\n${head}${tables.join("\n")}`, { mode: 0o600 });

  const home = { theirs: user.home, ours: user.home };
  const places: readonly Counts[] = [{ theirs: ours, ours }, home, { theirs: "/counts", ours: shared }];
  const of = (n: number): number => (n % 20 === 9 ? 2 : n % 5 === 2 ? 1 : 0);
  const all = Array.from({ length: Math.round((200 * SECONDS) / 55) }, (_, n): StormJob => {
    const counts = places[of(n)] ?? home;
    return { n, counts, job: coordinator.enqueue({ ...stormWork(n, counts), runnerToken: tokens[of(n)] ?? "" }) };
  });
  const jobs = all.map(({ job }) => job);
  const { kills, lost, open, log } = await storm(here, jobs, { lifeMs: [1000, 5000], limitMs: SECONDS * 1000 });
  expect(kills).toBeGreaterThan(5);
  expect(open, log.slice(-20_000)).toEqual([]);
  expect(log).not.toContain("A note of a dead job");
  expect(lost.size).toBeLessThan(jobs.length / 10);
  const kept = all.filter(({ job }) => !lost.has(job));
  expect(kept.map(told)).toEqual(kept.map(undisturbed));
  await nothingStays(here, tokens[0] ?? "");
  const label = [`com.gitlab.gitlab-runner.runner.id=${runnerId(tokens[2] ?? "")}`];
  const left = await docker.listContainers({ all: true, filters: { label } });
  expect(left.map(({ Names }) => Names.join())).toEqual([]);
  for (const { Name } of (await docker.listVolumes({ filters: { label } })).Volumes)
    await docker.getVolume(Name).remove({ force: true });
}
