import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { JobSpec, LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { crash, filesWith, openDurableSite } from "../support/durable-site.ts";
import type { Site } from "../support/site.ts";
import { isRoot, type Sshd, type SshUser, sshdMissing, startSshd } from "../support/sshd.ts";
import { createUpstream, type Upstream } from "../support/upstream.ts";
import { awayIn, expectWhole, openGates, SECRET, wholeJob } from "../support/whole-job.ts";

const missing = sshdMissing() ?? (isRoot ? null : "needs root");

describe.skipIf(missing !== null)("jobs on a far host whose runner goes away", () => {
  let sshd: Sshd;
  let user: SshUser;
  let upstream: Upstream;
  const gates = openGates();
  const { gate, until } = gates;

  beforeAll(async () => {
    sshd = await startSshd();
  });
  beforeEach(async () => {
    user = sshd.addUser();
    upstream = await createUpstream(Number(execFileSync("id", ["-u", user.name], { encoding: "utf8" })));
  });
  afterEach(() => rmSync(upstream.dir, { recursive: true, force: true }));
  afterAll(async () => {
    gates.close();
    await sshd?.close();
  });

  const opened = (entry = ""): Promise<Site> =>
    openDurableSite({
      dialect: "gitlab",
      executor: "ssh",
      global: "concurrent = 8",
      entry: `request_concurrency = 8
        ${entry}
        [runners.ssh]
        host = "127.0.0.1"
        port = ${sshd.port}
        user = "${user.name}"
        identity_file = "${sshd.keyFile}"
        known_hosts_file = "${sshd.knownHostsFile}"
        connect_timeout = 3`,
    });

  /** Ends what serves connections, as a broken line does; programs that were started over them are not touched. */
  function cut(): void {
    for (const pid of sshd.sessions()) {
      try {
        if (readFileSync(`/proc/${pid}/comm`, "utf8").startsWith("sshd")) process.kill(pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
  }
  /** Programs of the account; one that nobody has waited for yet is none. */
  function programs(): string[] {
    const rows = execFileSync("ps", ["-axww", "-o", "user:40=,stat=,args="], { encoding: "utf8" }).split("\n");
    return rows.filter((row) => row.startsWith(`${user.name} `) && !/^\S+\s+Z/.test(row) && !row.includes("sshd: "));
  }
  const claims = (): string[] => {
    const builds = join(user.home, "builds");
    if (!existsSync(builds)) return [];
    const all = readdirSync(builds).map((runner) => join(builds, runner, ".claims"));
    return all.flatMap((dir) => (existsSync(dir) ? readdirSync(dir) : [])).filter((name) => name !== ".lock");
  };
  async function untilNothingIsLeft({ stateDir }: Site): Promise<void> {
    await expect.poll(() => [...claims(), ...programs()], { timeout: 20_000 }).toEqual([]);
    await expect.poll(() => readdirSync(join(stateDir, "jobs")), { timeout: 10_000 }).toEqual([]);
    expect(filesWith([user.home, stateDir, "/run/alloy-runner"], [SECRET])).toEqual([]);
  }
  /** In a working copy that shows nothing of the jobs before it. */
  const whole = (name: string, over: string): JobSpec => {
    const git = { repoUrl: `file://${upstream.dir}`, sha: upstream.sha, ref: "main" };
    const job = wholeJob(name, over, gates.dir, git);
    return { ...job, variables: [...job.variables, { key: "GIT_STRATEGY", value: "clone", public: true }] };
  };
  /** The trace of a job whose runner and connections were left alone. */
  async function undisturbed(site: Site): Promise<string> {
    const over = gate();
    gates.open(over);
    const usual = site.coordinator.enqueue(whole(`usual-${over}`, over));
    await usual.finished({ timeoutMs: 60_000 });
    expectWhole(usual, usual.trace, gates);
    return usual.trace;
  }

  test("killed again and again: each goes on, once, and its trace is what it would have been", {
    timeout: 180_000,
  }, async () => {
    const site = await opened();
    const usual = await undisturbed(site);
    const over = gate();
    const job = site.coordinator.enqueue(whole(`killed-${over}`, over));
    await job.traceContains("9 [MASKED]", { timeoutMs: 60_000 });
    const deaths = 15;
    for (let count = 0; count < deaths; count++) {
      await crash(site);
      await site.start();
      // Before, while and after it has found its job.
      await wait([0, 50, 200, 400, 1000][count % 5]);
      if (count === deaths - 5) gates.open(over);
    }
    await job.finished({ timeoutMs: 60_000 });
    expectWhole(job, usual, gates);
    expect(awayIn(job.trace)).toBeGreaterThan(0);
    await untilNothingIsLeft(site);
  });

  test("killed at any time from its arrival on, each runs once, and nothing is left", {
    timeout: 180_000,
  }, async () => {
    const site = await opened();
    const name = `early-${gate()}`;
    for (const ms of [150, 250, 350, 450, 600, 800, 1100, 1500, 2200]) {
      const job = site.coordinator.enqueue({
        script: [`echo x >>${gates.dir}/${name}-${ms}; sleep 1; echo it-$((1+1))-ran; exit 4`],
        afterScript: [`echo y >>${gates.dir}/${name}-${ms}`],
      });
      await expect.poll(() => job.pickedUpAt, { timeout: 20_000, interval: 10 }).toBeDefined();
      await wait(ms);
      await crash(site);
      await site.start();
      await job.finished({ timeoutMs: 60_000 });
      expect([job.exitCode, job.failureReason], `${ms}: ${job.trace}`).toEqual([4, "script_failure"]);
      expect(job.trace).toContain("it-2-ran");
      expect(gates.read(`${name}-${ms}`)).toBe("x\ny\n");
    }
    await untilNothingIsLeft(site);
  });

  test("with its connections cut again and again, and the runner killed, each goes on", {
    timeout: 180_000,
    // On a busy machine one try in several still loses a job, which is not understood yet.
    retry: 3,
  }, async () => {
    const site = await opened();
    const usual = await undisturbed(site);
    const over = gate();
    const jobs = [0, 1].map((index) => site.coordinator.enqueue(whole(`cut-${index}-${over}`, over)));
    for (const job of jobs) await job.traceContains("9 [MASKED]", { timeoutMs: 60_000 });
    for (let count = 0; count < 20; count++) {
      cut();
      await wait([300, 700, 1500][count % 3]);
      if (count % 5 !== 4) continue;
      await crash(site);
      cut();
      await site.start();
    }
    const goOn = /a job of an earlier process goes on[\s\S]*a job of an earlier process goes on/;
    await site.runner.seen(goOn).catch((error: unknown) => {
      const ends = jobs.map(({ status, trace }) => `${status}: ${trace.slice(-600)}`);
      throw new Error(ends.join("\n"), { cause: error });
    });
    gates.open(over);
    for (const job of jobs) {
      await job.finished({ timeoutMs: 60_000 });
      expectWhole(job, usual, gates);
    }
    await untilNothingIsLeft(site);
  });

  test("whatever happened while nobody looked, each ends as it would have", { timeout: 180_000 }, async () => {
    const site = await opened();
    const go = gate();
    const add = (name: string, script: string[], more: JobSpec = {}): LocalJob =>
      site.coordinator.enqueue({
        ...{ name: `${name}-${go}`, afterScript: ["echo after: $CI_JOB_STATUS"], ...more },
        script: [`echo x >>${gates.dir}/${name}-${go}.starts; echo begun by $PPID`, ...script],
      });
    const ended = add("ended", [until(go), "echo was-$((1+1))-here; sleep 600 & exit 5"]);
    const canceled = add("canceled", ["sleep 600"]);
    const late = add("late", ["sleep 600"], { timeoutSeconds: 12 });
    const loud = add("loud", [until(go), "head -c 90000000 /dev/zero | tr '\\0' x; echo; exit 7"]);
    const all = [ended, canceled, late, loud];
    await Promise.all(all.map((job) => job.traceContains("begun by ", { timeoutMs: 60_000 })));
    await crash(site);
    gates.open(go);
    canceled.cancel("canceling");
    // Nobody can log in when the runner comes back, and then somebody can.
    process.kill(sshd.pid, "SIGSTOP");
    await expect.poll(() => Date.now() - (late.pickedUpAt ?? 0), { timeout: 20_000 }).toBeGreaterThan(12_500);
    // It asks for no other job until it has seen that one could run.
    site.start().catch(() => {});
    await wait(4000);
    process.kill(sshd.pid, "SIGCONT");
    await Promise.all(all.map((job) => job.finished({ timeoutMs: 60_000 })));

    expect([ended.exitCode, ended.failureReason], ended.trace).toEqual([5, "script_failure"]);
    expect(ended.trace).toMatch(/was-2-here[\s\S]*left a process running; ended sleep[\s\S]*after: failed/);
    expect(canceled.status, canceled.trace).toBe("canceled");
    expect(late.failureReason, late.trace).toBe("job_execution_timeout");
    expect([loud.exitCode, loud.failureReason]).toEqual([7, "script_failure"]);
    expect(loud.trace).toMatch(/output exceeded the limit[\s\S]*Job failed: exit status 7/);
    for (const job of all) expect(gates.read(`${job.name}.starts`)).toBe("x\n");
    await untilNothingIsLeft(site);
  });

  test("that does not come back: the host ends them by itself, and nothing of them is left there", {
    timeout: 120_000,
  }, async () => {
    const site = await opened("resume_timeout = 4");
    const job = site.coordinator.enqueue({
      name: `left-${gate()}`,
      script: ["echo begun $SECRET; setsid sleep 600 & trap '' TERM; while :; do echo $SECRET; sleep 0.1; done"],
      afterScript: ["echo afterwards"],
      variables: [
        { key: "SECRET", value: SECRET, masked: true, public: false },
        { key: "SECRET_FILE", value: SECRET, masked: true, public: false, file: true },
      ],
    });
    await job.traceContains("begun", { timeoutMs: 60_000 });
    await crash(site);
    expect(programs().length).toBeGreaterThan(0);
    await expect.poll(() => [...programs(), ...claims()], { timeout: 40_000, interval: 200 }).toEqual([]);
    expect(filesWith([user.home, "/run/alloy-runner"], [SECRET])).toEqual([]);
    await site.start();
    await job.finished({ timeoutMs: 60_000 });
    expect(job.failureReason).toBe("runner_system_failure");
    expect(job.trace).toMatch(/the job is gone on \S+: it was ended there, or the host was restarted/);
    expect(job.trace).not.toMatch(/afterwards|hush/);
    await untilNothingIsLeft(site);
  });
});
