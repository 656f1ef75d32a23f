import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { JobSpec, LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { imageName } from "../support/images.ts";
import { openSite, type Site, type SiteOptions } from "../support/site.ts";
import { createUpstream, type Upstream } from "../support/upstream.ts";

const cluster = await useCluster();

describe("jobs in pods with the built program", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  const it = (title: string, body: () => Promise<void>, ms = 180_000): void => test(title, body, ms);
  let namespace = "";
  let upstream: Upstream;
  let site: Site;
  const kept = mkdtempSync(join(tmpdir(), "alloy-kept-"));

  const entryOf = (more = ""): string => `[runners.kubernetes]
namespace = "${namespace}"
image = "${imageName("git")}"
helper_image = "${imageName("helper")}"
pull_policy = "never"
namespace_overwrite_allowed = "test-.*"
node_selector_overwrite_allowed = ".*"
${more}
[[runners.kubernetes.volumes.host_path]]
name = "upstream"
mount_path = "/upstream"
host_path = "${upstream.dir}"
read_only = true
[[runners.kubernetes.volumes.host_path]]
name = "kept"
mount_path = "/builds"
host_path = "${kept}"
`;
  const opened = async (options: Partial<SiteOptions> = {}): Promise<Site> =>
    await openSite({
      dialect: "gitlab",
      executor: "kubernetes",
      global: "concurrent = 6",
      entry: `request_concurrency = 6\n${entryOf()}`,
      run: { env: { KUBECONFIG: cluster.kubeconfig } },
      ...options,
    });

  beforeAll(async () => {
    await cluster.images("sh", "git", "helper", "user", "service");
    upstream = await createUpstream();
    namespace = await cluster.createNamespace();
    site = await opened();
  }, 300_000);
  afterAll(async () => {
    await site.close();
    for (const dir of [upstream.dir, kept]) rmSync(dir, { recursive: true, force: true });
  }, 120_000);

  const sources = (): JobSpec => ({
    git: { repoUrl: "file:///upstream", sha: upstream.sha, ref: "main" },
  });
  const variables = (values: Readonly<Record<string, string>>) =>
    Object.entries(values).map(([key, value]) => ({ key, value }));

  async function run(spec: JobSpec, at = site) {
    const job = at.coordinator.enqueue(spec);
    const update = await job.reported({ timeoutMs: 120_000 });
    return { job, update, state: update.state, trace: job.trace };
  }
  const objects = async (
    kind: "pods" | "secrets",
    where = namespace,
    selector = "alloy-runner.job-key",
  ): Promise<string[]> => {
    const text = await cluster.kubectl(["get", kind, "-n", where, "-l", selector, "-o", "name"]);
    return text.trim() === "" ? [] : text.trim().split("\n");
  };
  async function untilNothingIsLeft(where = namespace): Promise<void> {
    const left = async () => [...(await objects("pods", where)), ...(await objects("secrets", where))];
    await expect.poll(left, { timeout: 60_000, interval: 300 }).toEqual([]);
  }
  const isRunning = (argument: string): boolean =>
    execFileSync("ps", ["-axww", "-o", "args="], { encoding: "utf8" }).split("\n").includes(`sleep ${argument}`);
  /** An argument of `sleep` that no other process has. */
  const nap = (): string => `${1000 + (randomBytes(2).readUInt16BE() % 1000)}.${randomBytes(4).readUInt32BE()}`;
  const gateName = (): string => `gate-${randomBytes(4).toString("hex")}`;
  const login = { type: "registry", url: "https://index.docker.io/v1/", username: "somebody", password: "something" };

  it("sources, a service, artifacts and a cache; the working copy is kept and made anew", async () => {
    const common: JobSpec = { ...sources(), image: imageName("user"), cache: { key: "k", paths: [".cached"] } };
    const first = await run({
      ...common,
      services: [{ name: imageName("service"), alias: "web" }],
      script: [
        "cat README; id -u",
        "mkdir -p out .cached; echo made >out/file; echo kept >.cached/file",
        "until wget -qO- http://web:8080/; do sleep 0.2; done",
        // Hooks and settings of the old working copy, which must not affect the next checkout.
        "mkdir -p .git/hooks; printf '#!/bin/sh\\necho led >>/builds/led\\n' >.git/hooks/post-checkout; chmod +x .git/hooks/post-checkout",
        "touch .git/index.lock",
        "echo changed >README",
      ],
      artifacts: { paths: ["out/"] },
    });
    expect(first.state, first.trace).toBe("success");
    expect(first.trace).toMatch(/hello\r?\n1000\r?\n/);
    expect(first.trace).toMatch(/Used [\d.]+ s of processor time, at most [\d.]+ [MG]iB of memory/);
    const second = await run({
      ...common,
      script: ["cat out/file .cached/file README", "[ ! -e /builds/led ]"],
      dependencies: [first.job],
    });
    expect(second.state, second.trace).toBe("success");
    expect(second.trace).toMatch(/made\r?\nkept\r?\nhello\r?\n/);
    await untilNothingIsLeft();
  });

  it("secrets are masked across pieces of output, and are in no object of the cluster and no argument list", async () => {
    const gate = gateName();
    const secret = `tell-nobody-${randomBytes(8).toString("hex")}`;
    const job = site.coordinator.enqueue({
      variables: [{ key: "SECRET", value: secret, masked: true, public: false }],
      script: [
        `printf '%s' "\${SECRET%??????}"; sleep 0.5; echo "\${SECRET#\${SECRET%??????}}"; echo is-$((1+1))-ready`,
        `until [ -e /builds/${gate} ]; do sleep 0.1; done`,
      ],
    });
    await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
    expect(await cluster.kubectl(["get", "all,secrets,events", "-n", namespace, "-o", "yaml"])).not.toContain(secret);
    expect(execFileSync("ps", ["-axww", "-o", "args="]).toString()).not.toContain(secret);
    expect(await objects("pods")).toHaveLength(1);
    await writeFile(join(kept, gate), "");
    expect((await job.reported({ timeoutMs: 60_000 })).state, job.trace).toBe("success");
    expect(job.trace).toContain("[MASKED]");
    expect(job.trace).not.toContain(secret.slice(0, -6));
    await untilNothingIsLeft();
  });

  it("a cancel and the job's time limit end what runs, after_script still does its part", async () => {
    const [canceled, late] = [nap(), nap()];
    const spec = (argument: string): JobSpec => ({
      script: [`sleep ${argument} & echo is-$((1+1))-ready; sleep ${argument}`],
      afterScript: ["echo after=$CI_JOB_STATUS"],
    });
    const job = site.coordinator.enqueue(spec(canceled));
    const limited = site.coordinator.enqueue({ ...spec(late), timeoutSeconds: 12 });
    await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
    expect(isRunning(canceled)).toBe(true);
    job.cancel();
    await job.reported({ timeoutMs: 60_000 });
    expect(job.trace).toContain("after=canceled");
    expect((await limited.reported({ timeoutMs: 60_000 })).failureReason).toBe("job_execution_timeout");
    expect(limited.trace).toContain("after=timedout");
    await untilNothingIsLeft();
    expect([canceled, late].filter(isRunning)).toEqual([]);
  });

  it("the exit status of a script is the job's, and an image that is not there is named", async () => {
    const [failed, missing] = await Promise.all([
      run({ image: imageName("sh"), script: ["exit 42"] }),
      run({ image: "alloy.test/no-such-image:1", script: ["true"] }),
    ]);
    expect([failed.state, failed.update.exitCode]).toEqual(["failed", 42]);
    expect(missing.state).toBe("failed");
    expect(missing.trace).toContain("alloy.test/no-such-image:1");
  });

  it("a reload leaves the running job alone and holds for the next; SIGQUIT waits for it, SIGTERM ends it", async () => {
    const own = await opened();
    onTestFinished(() => own.close());
    const gate = gateName();
    const waits: JobSpec = {
      script: ["echo is-$((1+1))-ready", `until [ -e /builds/${gate} ]; do sleep 0.1; done; echo done`],
    };
    const job = own.coordinator.enqueue(waits);
    await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
    const from = own.runner.stderr().length;
    await own.configure({ global: "concurrent = 6", entry: entryOf('pod_labels = { reloaded = "yes" }') });
    await own.runner.seen(/configuration in force/, { from });
    const next = own.coordinator.enqueue(waits);
    await next.traceContains("is-2-ready", { timeoutMs: 60_000 });
    expect(await objects("pods", namespace, "reloaded=yes")).toHaveLength(1);
    own.runner.child.kill("SIGQUIT");
    await own.runner.seen(/asking for no more jobs/);
    await writeFile(join(kept, gate), "");
    expect((await own.runner.exit).code).toBe(0);
    expect([job.status, next.status], job.trace).toEqual(["success", "success"]);
    expect(job.trace).toContain("\ndone");
    await untilNothingIsLeft();

    await own.start();
    const argument = nap();
    const stopped = own.coordinator.enqueue({
      script: [`trap 'echo cleaned up' TERM; echo is-$((1+1))-ready; sleep ${argument} & wait`],
    });
    await stopped.traceContains("is-2-ready", { timeoutMs: 60_000 });
    expect((await own.runner.stop("SIGTERM")).code).toBe(0);
    expect(stopped.status).toBe("failed");
    expect(stopped.trace).toContain("cleaned up");
    expect(isRunning(argument)).toBe(false);
    await untilNothingIsLeft();
  });

  it("after kill -9 the next start removes what the jobs had, wherever they were, and touches nothing of others", async () => {
    const full = await cluster.createNamespace();
    await cluster.kubectl(["create", "quota", "none", "--hard=pods=0", "-n", full]);
    const other = await opened();
    onTestFinished(() => other.close());
    const gate = gateName();
    const others = other.coordinator.enqueue({
      credentials: [login],
      script: ["echo is-$((1+1))-ready", `until [ -e /builds/${gate} ]; do sleep 0.1; done; echo done`],
    });
    const labels = [
      "--labels=alloy-runner.job-key=somebody-elses",
      "--image",
      imageName("sh"),
      "--image-pull-policy=Never",
    ];
    await cluster.kubectl(["run", "-n", namespace, "bystander", ...labels, "--command", "--", "sleep", "1000"]);
    await cluster.kubectl(["create", "secret", "generic", "bystander", "-n", namespace]);

    const own = await opened();
    onTestFinished(() => own.close());
    const argument = nap();
    const running = own.coordinator.enqueue({
      credentials: [login],
      services: [imageName("service")],
      script: [`echo is-$((1+1))-ready; sleep ${argument}`],
    });
    const pending = own.coordinator.enqueue({
      credentials: [login],
      variables: variables({ KUBERNETES_NODE_SELECTOR_1: "no=where" }),
    });
    const between = own.coordinator.enqueue({
      credentials: [login],
      variables: variables({ KUBERNETES_NAMESPACE_OVERWRITE: full }),
    });
    await Promise.all([
      others.traceContains("is-2-ready", { timeoutMs: 90_000 }),
      running.traceContains("is-2-ready", { timeoutMs: 90_000 }),
      pending.traceContains("Waiting for pod", { timeoutMs: 90_000 }),
      between.traceContains("Waiting for room in the namespace's quota", { timeoutMs: 90_000 }),
    ]);
    expect([(await objects("pods")).length, (await objects("secrets")).length]).toEqual([4, 3]);
    expect([await objects("pods", full), (await objects("secrets", full)).length]).toEqual([[], 1]);

    await own.runner.stop("SIGKILL");
    expect(isRunning(argument)).toBe(true);
    await own.start();
    const reported = async (job: LocalJob) => await job.reported({ timeoutMs: 60_000 });
    for (const job of [running, pending, between]) {
      expect(await reported(job)).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
    }
    expect(running.trace).toContain("is-2-ready");
    expect(running.trace).toMatch(/removed 1 pod and what ran in it/);
    expect(between.trace).toContain("removed its logins");
    expect(isRunning(argument)).toBe(false);
    await untilNothingIsLeft(full);
    expect([(await objects("pods")).length, (await objects("secrets")).length]).toEqual([2, 1]);
    expect(await cluster.kubectl(["get", "secret", "bystander", "-n", namespace, "-o", "name"])).toContain("bystander");

    await writeFile(join(kept, gate), "");
    expect((await others.reported({ timeoutMs: 60_000 })).state, others.trace).toBe("success");
    expect(others.trace).toContain("\ndone");
    await cluster.kubectl(["delete", "pod", "bystander", "-n", namespace, "--grace-period=1"]);
    await untilNothingIsLeft();
  });

  it("a runner that is killed while a pod is deleted, pulls, or waits for a service leaves nothing for good", async () => {
    // What is being deleted below is to be of this test alone.
    await untilNothingIsLeft();
    const silent = createServer();
    silent.listen(0, cluster.hostAddress);
    await once(silent, "listening");
    const address = silent.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const place = `${cluster.hostAddress}:${address.port}`;
    await cluster.trustRegistry(place);
    const pulling = new Set<Socket>();
    silent.on("connection", (socket) => pulling.add(socket.on("error", () => {})));
    const endPulls = (): void => {
      silent.removeAllListeners("connection").on("connection", (socket) => socket.destroy());
      for (const socket of pulling) socket.destroy();
    };
    onTestFinished(() => {
      endPulls();
      silent.close();
    });

    const own = await opened({
      entry: `request_concurrency = 6\n${entryOf('pull_policy = "if-not-present"\ncleanup_grace_period_seconds = 15').replace('pull_policy = "never"', "")}`,
    });
    onTestFinished(() => own.close());
    // It is the first process of its container and heeds no SIGTERM, so that its pod takes all of the grace period.
    const stubborn = { name: imageName("sh"), command: ["sleep", "1000"] };
    const ended = own.coordinator.enqueue({ credentials: [login], services: [stubborn], script: ["true"] });
    const waits = own.coordinator.enqueue({
      credentials: [login],
      services: [{ ...stubborn, variables: [{ key: "HEALTHCHECK_TCP_PORT", value: "1" }] }],
    });
    const states = async (): Promise<string[]> => {
      const each = '{range .items[*]}{.metadata.deletionTimestamp}{" "}{.status.phase}{"\\n"}{end}';
      const text = await cluster.kubectl(["get", "pods", "-n", namespace, "-o", `jsonpath=${each}`]);
      return text.split("\n").map((line) => line.replace(/^\S+ .*/, "deleted").trim());
    };
    await expect.poll(states, { timeout: 90_000 }).toEqual(expect.arrayContaining(["deleted", "Running"]));
    const pulls = own.coordinator.enqueue({ credentials: [login], image: `${place}/no/image:1` });
    await expect.poll(() => pulling.size, { timeout: 60_000 }).toBeGreaterThan(0);
    await own.runner.stop("SIGKILL");
    await own.start();
    for (const job of [waits, pulls]) {
      expect(await job.reported({ timeoutMs: 90_000 })).toMatchObject({ failureReason: "runner_system_failure" });
    }
    expect(waits.trace).toMatch(/removed 1 pod and what ran in it/);
    // The node ends no pod whose image it still pulls.
    expect(pulls.trace).toMatch(/told its pod in the namespace "\S+" to end, which takes longer/);
    endPulls();
    expect((await ended.reported({ timeoutMs: 60_000 })).state).toBe("success");
    await untilNothingIsLeft();
  });

  it("what no note tells of is found by the sweep, and only what the same runner had", async () => {
    const [own, other] = [await opened(), await opened()];
    onTestFinished(() => own.close());
    onTestFinished(() => other.close());
    const gate = gateName();
    const waits: JobSpec = {
      credentials: [login],
      script: ["echo is-$((1+1))-ready", `until [ -e /builds/${gate} ]; do sleep 0.1; done; echo done`],
    };
    const [lost, others] = [own.coordinator.enqueue(waits), other.coordinator.enqueue(waits)];
    for (const job of [lost, others]) await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
    await own.runner.stop("SIGKILL");
    // The runner loses everything that it knew of its jobs.
    for (const name of readdirSync(own.stateDir).filter((name) => name !== "kubernetes-installation")) {
      await rm(join(own.stateDir, name), { recursive: true });
    }
    await own.start();
    expect((await run({ script: ["true"] }, own)).state).toBe("success");
    await own.runner.seen(/removed what a job of an earlier runner process had left/, { timeoutMs: 90_000 });
    await expect.poll(async () => (await objects("pods")).length, { timeout: 30_000 }).toBe(1);
    await expect.poll(async () => (await objects("secrets")).length, { timeout: 30_000 }).toBe(1);
    await writeFile(join(kept, gate), "");
    expect((await others.reported({ timeoutMs: 60_000 })).state, others.trace).toBe("success");
    await untilNothingIsLeft();
  });
});
