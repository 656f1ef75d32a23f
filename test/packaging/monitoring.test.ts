import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";

const folder = join(import.meta.dirname, "../../packaging/monitoring");
const rules = join(folder, "alerts.yml");
const absent = existsSync("/usr/bin/promtool") ? undefined : "there is no promtool";
if (absent !== undefined && process.env.CI) throw new Error(absent);

const rulesSchema = z.object({
  groups: z.array(z.object({ rules: z.array(z.object({ alert: z.string(), expr: z.string() })) })),
});
const alerts = rulesSchema.parse(parse(await readFile(rules, "utf8"))).groups.flatMap((group) => group.rules);

const E = 'instance="a:9252",runner_name="one"';
/** Series by which an alert fires after so long, and by which it does not; `from` to `step` for two days, in minutes. */
const cases: Readonly<Record<string, { at: string; fires: Record<string, string>; calm: Record<string, string> }>> = {
  AlloyRunnerAway: {
    at: "10m",
    fires: { 'up{job="alloy-runner",instance="a:9252"}': "0x3000" },
    calm: { 'up{job="alloy-runner",instance="a:9252"}': "1x3000", 'up{job="node",instance="a:1"}': "0x3000" },
  },
  AlloyRunnerEntryUnusable: {
    at: "15m",
    fires: { [`alloy_runner_entry_healthy{${E}}`]: "0x3000" },
    calm: { [`alloy_runner_entry_healthy{${E}}`]: "1x3000" },
  },
  AlloyRunnerEntryHeldBack: {
    at: "20m",
    fires: { [`alloy_runner_entry_state_info{${E},state="place"}`]: "1x3000" },
    calm: { [`alloy_runner_entry_state_info{${E},state="slot"}`]: "1x3000" },
  },
  AlloyRunnerOutOfDisk: {
    at: "10m",
    fires: { 'alloy_runner_polling_paused{instance="a:9252"}': "1x3000" },
    calm: { 'alloy_runner_polling_paused{instance="a:9252"}': "0x3000" },
  },
  AlloyRunnerDiskFills: {
    at: "8h",
    fires: { 'alloy_runner_state_free_bytes{instance="a:9252"}': "50000000000-50000000x3000" },
    calm: { 'alloy_runner_state_free_bytes{instance="a:9252"}': "50000000000-5000000x3000" },
  },
  AlloyRunnerResultsWait: {
    at: "30m",
    fires: { 'alloy_runner_outbox_oldest_age_seconds{instance="a:9252"}': "0+60x3000" },
    calm: { 'alloy_runner_outbox_oldest_age_seconds{instance="a:9252"}': "60x3000" },
  },
  AlloyRunnerSystemFailures: {
    at: "1h",
    fires: {
      [`gitlab_runner_failed_jobs_total{${E},failure_reason="runner_system_failure"}`]: "0+1x3000",
      [`gitlab_runner_jobs_total{${E}}`]: "0+5x3000",
    },
    calm: {
      [`gitlab_runner_failed_jobs_total{${E},failure_reason="script_failure"}`]: "0+4x3000",
      [`gitlab_runner_failed_jobs_total{${E},failure_reason="runner_system_failure"}`]: "0+1x3000",
      [`gitlab_runner_jobs_total{${E}}`]: "0+50x3000",
    },
  },
  AlloyRunnerCoordinatorInTrouble: {
    at: "1h",
    fires: {
      [`gitlab_runner_api_request_statuses_total{${E},status="502"}`]: "0+3x3000",
      [`gitlab_runner_api_request_statuses_total{${E},status="error"}`]: "0+3x3000",
      [`gitlab_runner_api_request_statuses_total{${E},status="204"}`]: "0+4x3000",
    },
    calm: {
      [`gitlab_runner_api_request_statuses_total{${E},status="502"}`]: "0+1x3000",
      [`gitlab_runner_api_request_statuses_total{${E},status="204"}`]: "0+9x3000",
    },
  },
  AlloyRunnerConfigurationRefused: {
    at: "20m",
    fires: { 'gitlab_runner_configuration_loading_error_total{instance="a:9252"}': "0x10 1x3000" },
    calm: { 'gitlab_runner_configuration_loading_error_total{instance="a:9252"}': "3x3000" },
  },
  AlloyRunnerJobsQueue: {
    at: "2h",
    fires: {
      [`gitlab_runner_job_queue_duration_seconds_bucket{${E},le="300"}`]: "0+1x3000",
      [`gitlab_runner_job_queue_duration_seconds_bucket{${E},le="900"}`]: "0+10x3000",
      [`gitlab_runner_job_queue_duration_seconds_bucket{${E},le="+Inf"}`]: "0+10x3000",
    },
    calm: {
      [`gitlab_runner_job_queue_duration_seconds_bucket{${E},le="300"}`]: "0+10x3000",
      [`gitlab_runner_job_queue_duration_seconds_bucket{${E},le="+Inf"}`]: "0+10x3000",
    },
  },
};

function promtool(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync("promtool", args, { encoding: "utf8" });
  return status === 0 ? "" : stdout + stderr;
}

test.skipIf(absent !== undefined)("the alerts are sound", () => {
  expect(promtool("check", "rules", rules)).toBe("");
  expect(alerts.map(({ alert }) => alert).sort()).toEqual(Object.keys(cases).sort());
});

test.skipIf(absent !== undefined).each(Object.entries(cases))(
  "%s fires when it is meant to",
  async (alertname, its) => {
    const dir = await mkdtemp(join(tmpdir(), "alloy-alerts-"));
    onTestFinished(() => rm(dir, { recursive: true }));
    const checked = async (series: Record<string, string>, exp_alerts: object[]): Promise<string> => {
      const file = join(dir, "case.yml");
      const input_series = Object.entries(series).map(([name, values]) => ({ series: name, values }));
      const tests = [{ interval: "1m", input_series, alert_rule_test: [{ eval_time: its.at, alertname, exp_alerts }] }];
      // JSON is YAML.
      await writeFile(file, JSON.stringify({ rule_files: [rules], evaluation_interval: "1m", tests }));
      return promtool("test", "rules", file);
    };
    expect(await checked(its.calm, [])).toBe("");
    // What it says is its own business; that it says something is told by the refusal of an expectation of nothing.
    const refused = await checked(its.fires, []);
    expect(refused).toContain("exp:[");
    expect(refused).toMatch(/got:\[\s*\S/);
    expect(refused).not.toContain("<error");
  },
);
