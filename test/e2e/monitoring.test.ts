import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { z } from "zod";
import { freePort } from "../support/free-port.ts";
import { openSite, type Site } from "../support/site.ts";

const folder = join(import.meta.dirname, "../../packaging/monitoring");
const absent = existsSync("/usr/bin/prometheus") ? undefined : "there is no prometheus";
if (absent !== undefined && process.env.CI) throw new Error(absent);

const dashboardSchema = z.object({
  panels: z.array(z.object({ title: z.string(), targets: z.array(z.object({ expr: z.string() })) })),
});
const answerSchema = z.object({
  status: z.string(),
  data: z.object({ result: z.array(z.object({ value: z.tuple([z.number(), z.string()]) })) }),
});
const rulesSchema = z.object({
  data: z.object({ groups: z.array(z.object({ rules: z.array(z.object({ name: z.string(), health: z.string() })) })) }),
});

let site: Site;
const undo: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  site = await openSite({ dialect: "gitlab", global: 'concurrent = 4\nlisten_address = "127.0.0.1:0"' });
});
afterEach(async () => {
  for (const one of undo.splice(0).reverse()) await one();
  await site.close();
});

/** A Prometheus that looks at the runner each second, with the alerts that are shipped. @returns asks it */
async function openPrometheus(target: string) {
  const dir = await mkdtemp(join(tmpdir(), "alloy-prometheus-"));
  undo.push(() => rm(dir, { recursive: true }));
  const config = {
    global: { scrape_interval: "1s", evaluation_interval: "1s" },
    rule_files: [join(folder, "alerts.yml")],
    scrape_configs: [{ job_name: "alloy-runner", static_configs: [{ targets: [target] }] }],
  };
  await writeFile(join(dir, "prometheus.yml"), JSON.stringify(config));
  const address = `127.0.0.1:${await freePort()}`;
  const args = [
    `--config.file=${dir}/prometheus.yml`,
    `--storage.tsdb.path=${dir}/data`,
    `--web.listen-address=${address}`,
  ];
  const child = spawn("prometheus", args, { stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  undo.push(async () => {
    child.kill("SIGTERM");
    await ended;
  });
  return async (path: string): Promise<unknown> => await (await fetch(`http://${address}/api/v1/${path}`)).json();
}

test.skipIf(absent !== undefined)(
  "a real Prometheus finds all that the dashboard draws, and takes the alerts",
  async () => {
    const url = (): string => / serving metrics .*url=http:\/\/(\S+)\/metrics/.exec(site.runner.stderr())?.[1] ?? "";
    await expect.poll(url, { timeout: 20_000 }).not.toBe("");
    const ask = await openPrometheus(url());
    const names = ["success", "failure", "success", "failure"];
    const later = async (): Promise<void> => {
      for (const name of names)
        site.coordinator.enqueue({
          name,
          script: [name === "success" ? "echo fine" : "exit 3"],
          runnerToken: site.tokens[0] ?? "",
        });
      await expect
        .poll(() => site.coordinator.jobs.every(({ status }) => status === "success" || status === "failed"), {
          timeout: 60_000,
        })
        .toBe(true);
    };
    const query = async (expr: string): Promise<string[]> => {
      const filled = expr
        .replaceAll("$__rate_interval", "1m")
        .replaceAll("$instance", ".*")
        .replaceAll("$runner", ".*")
        .replaceAll("$job", "alloy-runner");
      const answered = await ask(`query?query=${encodeURIComponent(filled)}`);
      return answerSchema.parse(answered).data.result.map(({ value }) => value[1]);
    };
    // What is counted is seen to grow only after it was seen once.
    await expect.poll(() => query('up{job="alloy-runner"}').catch(() => []), { timeout: 30_000 }).toEqual(["1"]);
    const ended = "sum(gitlab_runner_job_duration_seconds_count)";
    for (const count of ["4", "8"]) {
      await later();
      await expect.poll(() => query(ended), { timeout: 20_000 }).toEqual([count]);
    }
    const gate = join(site.dir, "gate");
    const script = [`while [ ! -e ${gate} ]; do sleep 0.1; done`];
    site.coordinator.enqueue({ name: "running", script, runnerToken: site.tokens[0] ?? "" });
    await expect.poll(() => query('gitlab_runner_jobs{state="running"}'), { timeout: 20_000 }).toEqual(["1"]);

    const { panels } = dashboardSchema.parse(JSON.parse(await readFile(join(folder, "grafana.json"), "utf8")));
    const targets = panels.flatMap(({ title, targets: all }) => all.map(({ expr }) => ({ title, expr })));
    expect(targets.length).toBeGreaterThan(20);
    const empty: string[] = [];
    for (const { title, expr } of targets) {
      if ((await query(expr)).length === 0) empty.push(`${title}: ${expr}`);
    }
    await writeFile(gate, "");
    // The coordinator of the tests tells no size of its queue.
    expect(empty.filter((line) => !line.includes("gitlab_runner_job_queue_size"))).toEqual([]);

    const { data } = rulesSchema.parse(await ask("rules"));
    const health = data.groups.flatMap(({ rules }) => rules.map((rule) => rule.health));
    expect(health.length).toBeGreaterThan(8);
    await expect
      .poll(
        async () =>
          rulesSchema.parse(await ask("rules")).data.groups.flatMap(({ rules }) => rules.map((rule) => rule.health)),
        { timeout: 20_000 },
      )
      .toEqual(health.map(() => "ok"));
  },
  120_000,
);
