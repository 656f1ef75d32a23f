import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { JobSpec, LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { imageName } from "../support/images.ts";
import { openSite, type Site } from "../support/site.ts";
import { createUpstream, type Upstream } from "../support/upstream.ts";

const cluster = await useCluster();

const SECRET = "hush-4711-hush-4711";
const AWAY = /The runner was restarted \(away for \d+\.\d s\); the job went on and is followed again/;

const awayIn = (trace: string): number => trace.split("\n").filter((line) => AWAY.test(line)).length;

/** From the job's place on, without what differs from run to run. */
function steady(trace: string): string {
  const lines = trace.slice(trace.indexOf("Running on pod")).split("\n");
  return lines
    .filter((line) => !AWAY.test(line))
    .join("\n")
    .replace(/section_(start|end):\d+:/g, "section_$1:0:")
    .replace(/Running on pod .*/, "running")
    .replace(/(Used|Took) .*/g, "used")
    .replace(/Uploading artifacts as .*/g, "uploading")
    .replace(/\d+\.\d+ [kM]?i?B/g, "bytes");
}

describe("jobs in pods whose runner goes away", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let namespace = "";
  let upstream: Upstream;
  /** What jobs leave there is seen by the test, and the other way round. */
  const gates = mkdtempSync(join(tmpdir(), "alloy-gates-"));
  chmodSync(gates, 0o777);
  const keyFile = join(gates, "key");
  writeFileSync(keyFile, randomBytes(32), { mode: 0o600 });
  const open: Site[] = [];

  beforeAll(async () => {
    await cluster.images("git", "helper", "service", "user");
    upstream = await createUpstream();
    namespace = await cluster.createNamespace();
  }, 120_000);
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close();
  }, 120_000);
  afterAll(() => {
    for (const dir of [upstream.dir, gates]) rmSync(dir, { recursive: true, force: true });
  });

  async function opened(): Promise<Site> {
    const site = await openSite({
      dialect: "gitlab",
      executor: "kubernetes",
      global: `concurrent = 8\ncheck_interval = 1\nlive_key_file = "${keyFile}"`,
      entry: `request_concurrency = 8
durable = true
[runners.kubernetes]
namespace = "${namespace}"
image = "${imageName("git")}"
helper_image = "${imageName("helper")}"
pull_policy = "never"
[[runners.kubernetes.volumes.host_path]]
name = "upstream"
mount_path = "/upstream"
host_path = "${upstream.dir}"
read_only = true
[[runners.kubernetes.volumes.host_path]]
name = "gates"
mount_path = "/gates"
host_path = "${gates}"
`,
      run: { env: { KUBECONFIG: cluster?.kubeconfig ?? "" } },
    });
    open.push(site);
    return site;
  }

  async function crash({ runner }: Site): Promise<void> {
    runner.child.kill("SIGKILL");
    await runner.exit;
  }
  const names = async (kind: "pods" | "secrets"): Promise<string[]> => {
    const text = await cluster.kubectl(["get", kind, "-n", namespace, "-l", "alloy-runner.job-key", "-o", "name"]);
    return text.trim() === "" ? [] : text.trim().split("\n");
  };
  async function untilNothingIsLeft({ stateDir }: Site): Promise<void> {
    const left = async (): Promise<string[]> => [...(await names("pods")), ...(await names("secrets"))];
    await expect.poll(left, { timeout: 60_000, interval: 300 }).toEqual([]);
    await expect.poll(() => readdirSync(join(stateDir, "jobs")), { timeout: 10_000 }).toEqual([]);
  }
  const podOf = async ({ id }: LocalJob): Promise<string> => {
    const selected = [
      "-n",
      namespace,
      "-o",
      "jsonpath={range .items[*]}{.metadata.name} {.metadata.labels}{'\\n'}{end}",
    ];
    const lines = (await cluster.kubectl(["get", "pods", ...selected])).split("\n");
    return lines.find((line) => line.includes(`-${id}-`))?.split(" ")[0] ?? "";
  };
  const until = (gate: string): string => `until [ -e /gates/${gate} ]; do sleep 0.05; done`;
  const gate = (): string => `gate-${randomBytes(4).toString("hex")}`;

  /** A job with all that jobs have, whose script goes on until it is told, and at least for so many lines. */
  function whole(name: string, over: string): JobSpec {
    return {
      name,
      git: { repoUrl: "file:///upstream", sha: upstream.sha, ref: "main" },
      cache: { key: "k", paths: [".cached"] },
      script: [
        `echo x >>/gates/${name}.starts; cat README; mkdir -p out .cached; echo kept >.cached/file`,
        // Pieces of lines, of characters and of secrets.
        `n=0; until [ -e /gates/${over} ] && [ $n -ge 300 ]; do printf "$n hush-4711-"; [ $((n % 20)) != 7 ] || sleep 0.1; echo "hush-4711 ünd"; n=$((n + 1)); done; echo $n >/gates/${name}.lines`,
        "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo made >out/file; exit 3",
      ],
      afterScript: [`echo y >>/gates/${name}.starts; echo afterwards $CI_JOB_STATUS`],
      artifacts: { paths: ["out/"], when: "always" },
      variables: [{ key: "SECRET", value: SECRET, masked: true, public: false }],
    };
  }
  function expectWhole(job: LocalJob, usual: string): void {
    const { name } = job;
    const lines = Number(readFileSync(join(gates, `${name}.lines`), "utf8"));
    const printed = (count: number): string => Array.from({ length: count }, (_, n) => `${n} [MASKED] ünd\n`).join("");
    const frame = (trace: string): string => steady(trace).replace(/(?:\d+ \[MASKED\] ünd\n)+/, "lines\n");
    expect(steady(job.trace).includes(`\n${printed(lines)}`), job.trace.slice(0, 20_000)).toBe(true);
    // The names of the job's own files differ.
    const named = (trace: string): string =>
      frame(trace).replace(/(?:usual|killed-\d|left-\d)-gate-\w+|gate-\w+/g, "its");
    expect(named(job.trace)).toBe(named(usual));
    expect(job.trace).not.toContain(SECRET);
    expect([job.status, job.exitCode]).toEqual(["failed", 3]);
    expect(readFileSync(join(gates, `${name}.starts`), "utf8")).toBe("x\ny\n");
  }
  async function undisturbed(site: Site): Promise<string> {
    const over = gate();
    writeFileSync(join(gates, over), "");
    const usual = site.coordinator.enqueue(whole(`usual-${over}`, over));
    await usual.finished({ timeoutMs: 60_000 });
    expectWhole(usual, usual.trace);
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
      await site.start();
      // Before, while and after it has found its jobs.
      await wait([0, 100, 400, 1500, 3000][count % 5]);
      if (count === deaths - 4) writeFileSync(join(gates, over), "");
    }
    for (const job of jobs) {
      await job.finished({ timeoutMs: 90_000 });
      expectWhole(job, usual);
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
    writeFileSync(join(gates, over), "");
    for (const job of jobs) {
      await job.finished({ timeoutMs: 60_000 });
      expectWhole(job, usual);
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
    const pods = { deleted: await podOf(deleted), dead: await podOf(dead) };
    await crash(site);

    writeFileSync(join(gates, go), "");
    canceled.cancel("canceling");
    await cluster.kubectl(["delete", "pod", pods.deleted, "-n", namespace, "--wait=true", "--grace-period=1"]);
    await cluster
      .kubectl(["exec", pods.dead, "-n", namespace, "-c", "build", "--", "sh", "-c", "kill -9 -1; kill 1"])
      .catch(() => {});
    await expect.poll(() => Date.now() - (late.pickedUpAt ?? 0), { timeout: 40_000 }).toBeGreaterThan(26_000);
    await site.start();
    writeFileSync(join(gates, `${go}.late`), "");
    await Promise.all(all.map((job) => job.finished({ timeoutMs: 90_000 })));

    expect([ended.exitCode, ended.failureReason]).toEqual([5, "script_failure"]);
    expect(ended.trace).toMatch(/was-2-here[\s\S]*left a process running; ended sleep[\s\S]*after: failed/);
    expect(canceled.status, canceled.trace).toBe("canceled");
    expect(canceled.trace).toMatch(/Stopped .*sleep[\s\S]*after: canceled/);
    expect(late.failureReason, late.trace).toBe("job_execution_timeout");
    expect(late.trace).toMatch(/Stopped .*sleep[\s\S]*after: timedout/);
    expect(deleted.failureReason, deleted.trace).toBe("runner_system_failure");
    expect(deleted.trace).toMatch(/Job failed.*Somebody has deleted the job's pod/);
    expect(dead.failureReason, dead.trace).toBe("runner_system_failure");
    expect(dead.trace).toMatch(/Job failed.*The build container has ended with status \d+ while a script ran in it/);
    expect(served.status, served.trace).toBe("success");
    expect(served.trace).toContain("still-2-there");
    for (const job of all) {
      expect(awayIn(job.trace), job.trace).toBe(1);
      expect(readFileSync(join(gates, `${job.name}.starts`), "utf8")).toBe("x\n");
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
      expect(existsSync(join(gates, `${name}-${ms}`)) && readFileSync(join(gates, `${name}-${ms}`), "utf8")).toBe(
        "x\n",
      );
    }
    await untilNothingIsLeft(site);
  }, 120_000);
});
