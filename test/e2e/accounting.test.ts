import { execFile } from "node:child_process";
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { type StatusAnswer, statusSchema } from "../../src/control/protocol.ts";
import { imageName, testEngine } from "../support/docker.ts";
import { program } from "../support/program.ts";
import { openSite, type Site } from "../support/site.ts";

const docker = await testEngine("docker");
const podman = await testEngine("podman");
const busy = ["i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; head -c 1000000 /dev/zero >file"];

/** Busy until the gate is there. */
const busyUntil = (gate: string): string => `echo begun; while [ ! -e ${gate} ]; do :; done`;

/** What another program is told. */
async function status(site: Site): Promise<StatusAnswer> {
  const [command, ...words] = program();
  const asked = await promisify(execFile)(command, [...words, "jobs", "--json", "--config", site.configFile]);
  return statusSchema.parse(JSON.parse(asked.stdout));
}

const lastOf = async (site: Site) => (await status(site)).finished[0]?.usage;

/** What the job that runs is said to use, once that is known in full. */
async function seenUsing(site: Site): Promise<void> {
  await expect
    .poll(async () => (await status(site)).jobs[0]?.usage, { timeout: 30_000 })
    .toMatchObject({ cpuSeconds: expect.any(Number), cpuPercent: expect.any(Number), memoryBytes: expect.any(Number) });
  const { cpuPercent = 0, memoryBytes = 0 } = (await status(site)).jobs[0]?.usage ?? {};
  expect(cpuPercent).toBeGreaterThan(5);
  expect(memoryBytes).toBeGreaterThan(100_000);
}

describe("at a job's end", () => {
  test.skipIf(!existsSync("/sys/fs/cgroup") || process.geteuid?.() !== 0)(
    "its trace, the log and jobs say what it used, in the shell",
    async () => {
      const site = await openSite({ dialect: "gitlab", global: 'log_format = "json"' });
      onTestFinished(() => site.close());
      const gate = join(site.dir, "gate");
      const job = site.coordinator.enqueue({ script: [...busy, busyUntil(gate)], variables: { GIT_STRATEGY: "none" } });
      await job.traceContains("begun");
      await seenUsing(site);
      await writeFile(gate, "");
      expect((await job.reported()).state, job.trace).toBe("success");
      expect(job.trace).toMatch(/Used [\d.]+ s of processor time.*; took [\d.]+ s: .*build_script [\d.]+ s/);
      const line = (await site.runner.seen(/^\{.*"what the job used".*\}$/m))[0];
      expect(JSON.parse(line)).toMatchObject({
        job: job.id,
        cpu_seconds: expect.any(Number),
        stage_seconds: expect.stringMatching(/prepare_executor=[\d.]+ .*build_script=/),
      });
      await expect.poll(() => lastOf(site)).toMatchObject({ cpuSeconds: expect.any(Number) });
    },
  );

  for (const [kind, engine] of [
    ["docker", docker],
    ["podman", podman],
  ] as const) {
    test.skipIf(engine === null)(
      `the same in a container of ${kind}`,
      async () => {
        if (engine === null) return;
        await engine.images("git");
        const image = imageName("git");
        const site = await openSite({
          dialect: "gitlab",
          executor: "docker",
          entry: `[runners.docker]\nhost = "${engine.host}"\nimage = "${image}"\nhelper_image = "${image}"\npull_policy = "never"`,
        });
        onTestFinished(() => site.close());
        const script = [...busy, "echo begun; sh -c 'while :; do :; done'"];
        const seen = site.coordinator.enqueue({ script, variables: { GIT_STRATEGY: "none" } });
        await seen.traceContains("begun", { timeoutMs: 120_000 });
        await seenUsing(site);
        seen.cancel();
        const job = site.coordinator.enqueue({ script: busy, variables: { GIT_STRATEGY: "none" } });
        expect((await job.reported({ timeoutMs: 120_000 })).state, job.trace).toBe("success");
        expect(job.trace).toMatch(/Used [\d.]+ s of processor time.*prepare_executor [\d.]+ s \(images [\d.]+ s\)/);
        await expect
          .poll(() => lastOf(site), { timeout: 20_000 })
          .toMatchObject({ cpuSeconds: expect.any(Number), imageSeconds: expect.any(Number) });
      },
      240_000,
    );
  }

  test("a script that failed while the kernel killed for want of memory is told so", async ({ skip }) => {
    const group = `/sys/fs/cgroup/memory/alloy-accounting-${process.pid}`;
    try {
      mkdirSync(group);
      writeFileSync(`${group}/memory.limit_in_bytes`, "20M");
    } catch {
      return skip("only root, with control groups of version 1, can make a group with little memory");
    }
    onTestFinished(() => rmdirSync(group));
    const site = await openSite({ dialect: "gitlab" });
    onTestFinished(() => site.close());
    const script = [`sh -c 'echo $$ >${group}/cgroup.procs; head -c 200000000 /dev/zero | tail -n 1 >/dev/null'`];
    const job = site.coordinator.enqueue({ script, variables: { GIT_STRATEGY: "none" } });
    expect(await job.reported()).toMatchObject({ state: "failed", failureReason: "script_failure" });
    expect(job.trace).toMatch(
      /Out of memory: the kernel killed (?:a process|\d+ processes) on this machine while the script ran; it has [\d.]+ GiB/,
    );
  });
});
