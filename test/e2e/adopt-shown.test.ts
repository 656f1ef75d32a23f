import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { statusSchema } from "../../src/control/protocol.ts";
import { crash, openDurableSite } from "../support/durable-site.ts";
import { freePort } from "../support/free-port.ts";
import { program } from "../support/program.ts";

const onLinux = process.platform === "linux" && process.geteuid?.() === 0;

describe.runIf(onLinux)("of a job that was adopted", () => {
  test("commands, metrics and its own last lines tell as of any other", { timeout: 90_000 }, async () => {
    const port = await freePort();
    const here = await openDurableSite({
      dialect: "gitlab",
      global: `concurrent = 3\nlog_format = "json"\nlisten_address = "127.0.0.1:${port}"`,
    });
    const { coordinator, dir, configFile } = here;
    const [command, ...words] = program();
    const ask = async (...args: string[]): Promise<string> =>
      (await promisify(execFile)(command, [...words, ...args, "--config", configFile])).stdout;
    const status = async () => statusSchema.parse(JSON.parse(await ask("jobs", "--json")));
    const go = join(dir, "go");
    const busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    const step = { timeout: 600, when: "on_success", allow_failure: false };
    const job = coordinator.enqueue({
      payload: {
        steps: [
          { ...step, name: "busy", script: [busy] },
          { ...step, name: "script", script: [`echo begun; until [ -e ${go} ]; do sleep 0.05; done`] },
        ],
      },
    });
    await job.traceContains("begun");
    expect((await status()).jobs[0]).toMatchObject({ durable: true });
    expect((await status()).jobs[0]?.adopted).toBeUndefined();
    expect(await ask("jobs")).toMatch(/JOB +RUNNER +DOES +FOR +DURABLE +TITLE\n\d+ .* yes +project: /);
    const before = (await status()).jobs[0]?.usage?.cpuSeconds ?? 0;
    expect(before).toBeGreaterThan(0.1);
    const { receivedAt } = (await status()).jobs[0] ?? {};
    for (const times of [1, 2]) {
      await crash(here);
      await here.start();
      await expect.poll(async () => (await status()).jobs[0]?.adopted).toBe(times);
    }
    expect((await status()).jobs[0]).toMatchObject({ durable: true, adopted: 2 });
    const since = Date.parse((await status()).jobs[0]?.receivedAt ?? "") - Date.parse(receivedAt ?? "");
    expect(Math.abs(since)).toBeLessThan(2000);
    expect(await ask("jobs")).toMatch(/ adopted 2× +project: /);
    expect(await ask("doctor")).toContain("of 1 job in progress 1 is durable, 1 adopted");
    const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    expect(metrics).toContain('alloy_runner_jobs_adopted_total{result="adopted"} 1\n');
    expect(metrics).toContain('alloy_runner_jobs_adopted_total{result="buried"} 0\n');
    expect(metrics).toContain("alloy_runner_adopt_seconds_count 1\n");
    // It was counted when it came.
    expect(metrics).not.toMatch(/^gitlab_runner_jobs_total\{/m);

    writeFileSync(go, "");
    await job.finished();
    expect(job.status, job.trace).toBe("success");
    const [, seconds] = /Used ([\d.]+) s of processor time/.exec(job.trace) ?? [];
    expect(Number(seconds)).toBeGreaterThanOrEqual(Math.floor(before * 10) / 10);
    const [line] = await here.runner.seen(/^\{.*"what the job used".*\}$/m);
    expect(JSON.parse(line).cpu_seconds).toBeGreaterThanOrEqual(before);
    await expect.poll(async () => (await status()).finished[0]?.adopted).toBe(2);
  });
});
