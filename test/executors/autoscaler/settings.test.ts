import { expect, test } from "vitest";
import { autoscalerTable } from "../../../executors/autoscaler/index.ts";
import { awsSettings } from "../../../executors/autoscaler/providers/aws/settings.ts";
import { originOf } from "../../../executors/autoscaler/settings/plugin.ts";
import { poolSettings } from "../../../executors/autoscaler/settings/pool-settings.ts";

const exec = { plugin: "exec", plugin_config: { command: "/opt/cloud" } };

/** What is wrong, as `key: sentence`. */
function problems(table: unknown): string[] {
  const { error } = autoscalerTable.safeParse(table);
  return (error?.issues ?? []).map(({ path, message }) => `${path.join(".")}: ${message}`);
}

test("what is not said has GitLab Runner's defaults", () => {
  const settings = poolSettings(autoscalerTable.parse(exec), false);
  expect(settings).toEqual({
    capacity: 1,
    maxUses: Number.POSITIVE_INFINITY,
    maxInstances: Number.POSITIVE_INFINITY,
    maxCreating: Number.POSITIVE_INFINITY,
    throttle: { perSecond: 100, burst: 100 },
    failureThreshold: 3,
    removeAgainMs: 60_000,
    policies: [],
    otherwise: { idleLeast: 0, idleMost: 0, idleFactor: 0, idleTimeMs: 300_000, preemptive: false },
    acquireTimeoutMs: 900_000,
    updateMs: 60_000,
    updateSoonMs: 2_000,
    checkMs: 60_000,
    removeOnClose: false,
  });
});

test("every key counts, with durations as Go writes them", () => {
  const table = autoscalerTable.parse({
    ...exec,
    capacity_per_instance: 4,
    max_use_count: 10,
    max_instances: 7,
    update_interval: "30s",
    update_interval_when_expecting: 1,
    instance_acquire_timeout: "20m0s",
    failure_threshold: 5,
    deletion_retry_interval: "2m",
    delete_instances_on_shutdown: true,
    scale_throttle: { limit: 0.5, burst: 3 },
  });
  expect(poolSettings(table, false)).toMatchObject({
    capacity: 4,
    maxUses: 10,
    maxInstances: 7,
    updateMs: 30_000,
    updateSoonMs: 1_000,
    acquireTimeoutMs: 1_200_000,
    failureThreshold: 5,
    removeAgainMs: 120_000,
    removeOnClose: true,
    throttle: { perSecond: 0.5, burst: 3 },
  });
  expect(poolSettings(autoscalerTable.parse({ ...exec, scale_throttle: { limit: -1 } }), true)).toMatchObject({
    throttle: null,
    removeOnClose: true,
  });
});

test("a policy holds in the minutes of its periods, which have to fit all fields; the factor has its limit", () => {
  const { policy } = autoscalerTable.parse({
    ...exec,
    policy: [
      { idle_count: 2, idle_time: "20m0s" },
      { periods: ["* 8-17 * * mon-fri"], timezone: "Europe/Berlin", scale_factor: 0.5, scale_factor_limit: 10 },
      { periods: ["0 0 13 * 5"], scale_factor: 1, idle_count: 3, preemptive_mode: false },
    ],
  });
  expect(policy.map(({ demand }) => demand)).toEqual([
    { idleLeast: 2, idleMost: 2, idleFactor: 0, idleTimeMs: 1_200_000, preemptive: true },
    { idleLeast: 0, idleMost: 10, idleFactor: 0.5, idleTimeMs: 300_000, preemptive: false },
    { idleLeast: 3, idleMost: Number.POSITIVE_INFINITY, idleFactor: 1, idleTimeMs: 300_000, preemptive: false },
  ]);
  const holds = (index: number, at: Date): boolean => policy[index]?.periods.some((period) => period(at)) ?? false;
  expect(holds(1, new Date("2026-11-30T07:30:00Z"))).toBe(true);
  expect(holds(1, new Date("2026-11-30T17:30:00Z"))).toBe(false);
  // Friday the 13th, and no other Friday.
  expect(holds(2, new Date(2026, 10, 13))).toBe(true);
  expect(holds(2, new Date(2026, 10, 20))).toBe(false);
});

test("a list of hosts is a bound, and the names of plugins are those of GitLab Runner", () => {
  const hosts = {
    one: { internal_addr: "10.0.0.1" },
    two: { external_addr: "build.example.com:2222", username: "ci" },
  };
  for (const plugin of [
    "static",
    "fleeting-plugin-static",
    "static:latest",
    "registry.gitlab.com/gitlab-org/fleeting/plugins/static:1.5",
  ]) {
    const table = autoscalerTable.parse({ plugin, plugin_config: { instances: hosts }, max_instances: 9 });
    expect(poolSettings(table, false).maxInstances, plugin).toBe(2);
  }
});

test("an Auto Scaling group has the keys of GitLab's plugin, and another one needs instances of its own", () => {
  const groupOf = (config: object) =>
    autoscalerTable.parse({ plugin: "registry.gitlab.com/gitlab-org/fleeting/plugins/aws:1.5", plugin_config: config })
      .plugin;
  const all = { name: "runners", profile: "ci", config_file: "aws/config", credentials_file: "/etc/aws" };
  const plugin = groupOf(all);
  expect(plugin).toEqual({ name: "aws", config: all });
  expect(originOf(groupOf(all))).toBe(originOf(plugin));
  expect(originOf(groupOf({ ...all, name: "others" }))).not.toBe(originOf(plugin));
  expect(awsSettings(all, "/srv")).toEqual({
    group: "runners",
    profile: "ci",
    configFile: "/srv/aws/config",
    credentialsFile: "/etc/aws",
  });
  expect(problems({ plugin: "aws" })).toEqual(["plugin_config.name: is missing: the name of an Auto Scaling group"]);
  expect(problems({ plugin: "aws", plugin_config: { name: "a", regoin: "b" } })).toEqual([
    expect.stringMatching(/^plugin_config: .*regoin/),
  ]);
});

test("what cannot be is refused with its key and what to do", () => {
  expect(problems({ plugin: "googlecloud:latest" })).toEqual([
    expect.stringMatching(
      /^plugin: has to be "aws", "exec" or "static".*other fleeting plugins.*With "exec" a program of yours/,
    ),
  ]);
  expect(problems({ plugin: "exec" })).toEqual([expect.stringMatching(/^plugin_config.command: names no program/)]);
  expect(problems({ plugin: "static", plugin_config: { instances: {} } })).toEqual([
    expect.stringMatching(/^plugin_config.instances: names no host/),
  ]);
  expect(problems({ plugin: "static", plugin_config: { instances: { a: {} } } })).toEqual([
    expect.stringMatching(/^plugin_config.instances.a: has no address/),
  ]);
  expect(problems({ ...exec, connector_config: { protocol: "winrm+https" } })).toEqual([
    expect.stringMatching(/^connector_config.protocol: WinRM is not supported: instances are reached over SSH/),
  ]);
  expect(problems({ ...exec, connector_config: { os: "windows" } })).toEqual([
    expect.stringMatching(/^connector_config.os: Windows is not supported/),
  ]);
  expect(problems({ ...exec, connector_config: { use_static_credentials: true } })).toEqual([
    "connector_config.use_static_credentials: needs key_path or password beside it",
  ]);
  expect(problems({ ...exec, policy: [{ periods: ["* * *"] }] })).toEqual([
    expect.stringMatching(/^policy.0.periods.0: "\* \* \*" is no period/),
  ]);
  expect(problems({ ...exec, policy: [{ timezone: "Europe/Atlantis", periods: ["* * * * *"] }] })).toEqual([
    expect.stringMatching(/^policy.0.timezone: "Europe\/Atlantis" is no time zone/),
  ]);
  expect(problems({ ...exec, vm_isolation: { enabled: true } })).toEqual([
    expect.stringMatching(/^vm_isolation: is not supported/),
  ]);
  expect(problems({ ...exec, instance_acquire_timeout: "soon" })).toEqual([
    expect.stringMatching(/^instance_acquire_timeout: expected a duration/),
  ]);
});
