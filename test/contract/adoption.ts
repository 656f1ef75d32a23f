import { randomBytes } from "node:crypto";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { JobSpec, LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { crash, filesWith } from "../support/durable-site.ts";
import { imageName } from "../support/images.ts";
import { openSite, type Site, type SiteOptions } from "../support/site.ts";
import { createUpstream, type Upstream } from "../support/upstream.ts";
import { awayIn, expectWhole, openGates, SECRET, wholeJob } from "../support/whole-job.ts";

/** Where jobs of an executor go on while their runner is away. */
export interface AdoptionPlace {
  /** Before the first test. @returns how the site's runner is configured: jobs find `upstream` and `gates` at `/upstream` and `/gates` */
  open(dirs: {
    readonly upstream: string;
    readonly gates: string;
  }): Promise<Pick<SiteOptions, "executor" | "entry" | "run">>;
  /** What jobs of this place have left there. */
  leftovers(site: Site): Promise<readonly string[]>;
  /** Removes what the job runs in. */
  remove(job: LocalJob, site: Site): Promise<void>;
  /** Ends what the job's scripts run in, which is left as it is then. */
  end(job: LocalJob, site: Site): Promise<void>;
  /** What the trace says of a job whose place was removed. */
  readonly removed: RegExp;
}

/** That jobs go on with the runner's next process, as if nothing had been. */
export function adoptionContract(place: AdoptionPlace): void {
  let upstream: Upstream;
  const gates = openGates("/gates");
  const { gate, until } = gates;
  const keyFile = join(gates.dir, "key");
  writeFileSync(keyFile, randomBytes(32), { mode: 0o600 });
  const open: Site[] = [];

  let options: Awaited<ReturnType<AdoptionPlace["open"]>>;

  beforeAll(async () => {
    upstream = await createUpstream();
    options = await place.open({ upstream: upstream.dir, gates: gates.dir });
  }, 240_000);
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close();
  }, 120_000);
  afterAll(() => {
    gates.close();
    rmSync(upstream.dir, { recursive: true, force: true });
  });

  async function opened(): Promise<Site> {
    const { entry = "", ...others } = options;
    const site = await openSite({
      ...others,
      dialect: "gitlab",
      global: `concurrent = 8\ncheck_interval = 1\nlive_key_file = "${keyFile}"`,
      entry: `request_concurrency = 8\ndurable = true\n${entry}`,
    });
    open.push(site);
    return site;
  }

  async function untilNothingIsLeft(site: Site): Promise<void> {
    await expect.poll(() => place.leftovers(site), { timeout: 60_000, interval: 300 }).toEqual([]);
    await expect.poll(() => readdirSync(join(site.stateDir, "jobs")), { timeout: 10_000 }).toEqual([]);
  }
  const whole = (name: string, over: string): JobSpec =>
    wholeJob(name, over, "/gates", { repoUrl: "file:///upstream", sha: upstream.sha, ref: "main" });
  async function undisturbed(site: Site): Promise<string> {
    const over = gate();
    gates.open(over);
    const usual = site.coordinator.enqueue(whole(`usual-${over}`, over));
    await usual.finished({ timeoutMs: 60_000 });
    expectWhole(usual, usual.trace, gates);
    return usual.trace;
  }

  test("killed again and again: each goes on, once, and its trace is what it would have been", async () => {
    const site = await opened();
    const usual = await undisturbed(site);
    const over = gate();
    const jobs = Array.from({ length: 3 }, (_, index) =>
      site.coordinator.enqueue(whole(`killed-${index}-${over}`, over)),
    );
    for (const job of jobs) await job.traceContains("9 [MASKED]", { timeoutMs: 60_000 });
    const deaths = 12;
    for (let count = 0; count < deaths; count++) {
      await crash(site);
      expect(filesWith([site.stateDir], [SECRET])).toEqual([]);
      await site.start();
      // Before, while and after it has found its jobs.
      await wait([0, 100, 400, 1500, 3000][count % 5]);
      if (count === deaths - 4) gates.open(over);
    }
    for (const job of jobs) {
      await job.finished({ timeoutMs: 90_000 });
      expectWhole(job, usual, gates);
      expect(awayIn(job.trace)).toBeGreaterThan(0);
    }
    await untilNothingIsLeft(site);
  }, 120_000);

  test("handed over again and again: the same, and the runner ends at once", async () => {
    const site = await opened();
    const usual = await undisturbed(site);
    const over = gate();
    const jobs = Array.from({ length: 3 }, (_, index) =>
      site.coordinator.enqueue(whole(`left-${index}-${over}`, over)),
    );
    for (const job of jobs) await job.traceContains("9 [MASKED]", { timeoutMs: 60_000 });
    for (let count = 0; count < 5; count++) {
      const began = performance.now();
      site.runner.child.kill("SIGUSR2");
      expect(await site.runner.exit).toEqual({ code: 0, signal: null });
      expect(performance.now() - began).toBeLessThan(10_000);
      await site.start();
      await site.runner.seen(/a job of an earlier process goes on/);
    }
    gates.open(over);
    for (const job of jobs) {
      await job.finished({ timeoutMs: 60_000 });
      expectWhole(job, usual, gates);
    }
    await untilNothingIsLeft(site);
  }, 120_000);

  test("whatever happened while nobody looked, each ends as it would have", async () => {
    const site = await opened();
    const { coordinator } = site;
    const go = gate();
    const add = (name: string, script: string[], more: JobSpec = {}): LocalJob =>
      coordinator.enqueue({
        ...{ name: `${name}-${go}`, afterScript: ["echo after: $CI_JOB_STATUS"], ...more },
        script: [`echo x >>/gates/${name}-${go}.starts; echo begun`, ...script],
      });
    const ended = add("ended", [until(go), "echo was-$((1+1))-here; sleep 600 & exit 5"]);
    const canceled = add("canceled", ["sleep 600"]);
    const late = add("late", ["sleep 600"], { timeoutSeconds: 25 });
    const deleted = add("deleted", ["sleep 600"]);
    const dead = add("dead", ["sleep 600"]);
    const served = add("served", [until(`${go}.late`), "wget -qO- http://web:8080/ && echo still-$((1+1))-there"], {
      image: imageName("user"),
      services: [{ name: imageName("service"), alias: "web" }],
    });
    const all = [ended, canceled, late, deleted, dead, served];
    await Promise.all(all.map((job) => job.traceContains("begun", { timeoutMs: 90_000 })));
    await crash(site);

    gates.open(go);
    canceled.cancel("canceling");
    await place.remove(deleted, site);
    await place.end(dead, site);
    await expect.poll(() => Date.now() - (late.pickedUpAt ?? 0), { timeout: 40_000 }).toBeGreaterThan(26_000);
    await site.start();
    gates.open(`${go}.late`);
    await Promise.all(all.map((job) => job.finished({ timeoutMs: 90_000 })));

    expect([ended.exitCode, ended.failureReason]).toEqual([5, "script_failure"]);
    expect(ended.trace).toMatch(/was-2-here[\s\S]*left a process running; ended sleep[\s\S]*after: failed/);
    expect(canceled.status, canceled.trace).toBe("canceled");
    expect(canceled.trace).toMatch(/Stopped .*sleep[\s\S]*after: canceled/);
    expect(late.failureReason, late.trace).toBe("job_execution_timeout");
    expect(late.trace).toMatch(/Stopped .*sleep[\s\S]*after: timedout/);
    expect(deleted.failureReason, deleted.trace).toBe("runner_system_failure");
    expect(deleted.trace).toMatch(place.removed);
    expect(dead.failureReason, dead.trace).toBe("runner_system_failure");
    expect(dead.trace).toMatch(/Job failed.*The build container has ended with status \d+ while a script ran in it/);
    expect(served.status, served.trace).toBe("success");
    expect(served.trace).toContain("still-2-there");
    for (const job of all) {
      expect(awayIn(job.trace), job.trace).toBe(1);
      expect(gates.read(`${job.name}.starts`)).toBe("x\n");
    }
    await untilNothingIsLeft(site);
  }, 120_000);

  test("killed at any time from its arrival on, each runs once, and nothing is left", async () => {
    const site = await opened();
    const name = `early-${gate()}`;
    for (const ms of [150, 700, 1600, 2600, 4000]) {
      const job = site.coordinator.enqueue({
        script: [`echo x >>/gates/${name}-${ms}; sleep 2; echo it-$((1+1))-ran; exit 4`],
      });
      // Of what its runner has not kept yet, the coordinator alone knows.
      const kept = (): boolean => readdirSync(join(site.stateDir, "jobs")).some((key) => key.includes(`-${job.id}-`));
      await expect.poll(kept, { timeout: 20_000, interval: 5 }).toBe(true);
      await wait(ms);
      await crash(site);
      await site.start();
      await job.finished({ timeoutMs: 60_000 });
      expect([job.exitCode, job.failureReason], job.trace).toEqual([4, "script_failure"]);
      expect(job.trace).toContain("it-2-ran");
      expect(gates.read(`${name}-${ms}`)).toBe("x\n");
    }
    await untilNothingIsLeft(site);
  }, 120_000);
}
