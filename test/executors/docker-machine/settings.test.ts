import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse as parseToml } from "@iarna/toml";
import { expect, test } from "vitest";
import { z } from "zod";
import { machineFlags } from "../../../executors/docker-machine/settings/flags.ts";
import {
  createFlags,
  poolSettings,
  removalAttempts,
} from "../../../executors/docker-machine/settings/pool-settings.ts";
import { machineTable } from "../../../executors/docker-machine/settings/settings.ts";

const needed = { MachineDriver: "none", MachineName: "auto-%s" };
const pool = (table: Readonly<Record<string, unknown>>, limit = Number.POSITIVE_INFINITY) =>
  poolSettings(machineTable.parse({ ...needed, ...table }), limit, false);

test("keys are those of the Go runner, in the scaler's words", () => {
  expect(pool({})).toMatchObject({
    capacity: 1,
    maxUses: Number.POSITIVE_INFINITY,
    maxInstances: Number.POSITIVE_INFINITY,
    maxCreating: Number.POSITIVE_INFINITY,
    otherwise: { idleLeast: 0, idleMost: 0, idleFactor: 0, idleTimeMs: 0, preemptive: false },
    policies: [],
    removeOnClose: false,
  });
  const full = pool(
    { IdleCount: 5, IdleTime: 60, MaxBuilds: 3, MaxGrowthRate: 2, shutdown_drain: { enabled: true } },
    40,
  );
  expect(full).toMatchObject({
    maxUses: 3,
    maxInstances: 40,
    maxCreating: 2,
    otherwise: { idleLeast: 5, idleMost: 5, idleTimeMs: 60_000, preemptive: true },
    removeOnClose: true,
  });
  // With a factor the count is the most there is, and one is always there.
  expect(pool({ IdleCount: 10, IdleScaleFactor: 0.5 }).otherwise).toMatchObject({
    idleLeast: 1,
    idleMost: 10,
    idleFactor: 0.5,
  });
  expect(pool({ IdleCount: 10, IdleScaleFactor: 0.5, IdleCountMin: 3 }).otherwise).toMatchObject({ idleLeast: 3 });
  expect(pool({ IdleScaleFactor: 0.5, IdleCountMin: 3 }).otherwise).toMatchObject({
    idleLeast: 0,
    idleFactor: 0,
    preemptive: false,
  });
});

test("periods become policies, the older keys first", () => {
  const { policies } = pool({
    IdleCount: 2,
    OffPeakPeriods: ["* * * * * sat,sun *"],
    OffPeakTimezone: "Europe/Berlin",
    OffPeakIdleTime: 30,
    autoscaling: [{ Periods: ["* 8-18 * * mon-fri"], Timezone: "Europe/Berlin", IdleCount: 9 }],
  });
  expect(policies.map(({ demand }) => [demand.idleLeast, demand.idleTimeMs])).toEqual([
    [0, 30_000],
    [9, 0],
  ]);
  const holds = (time: string) => policies.map(({ periods }) => periods.some((period) => period(new Date(time))));
  expect(holds("2026-11-29T10:00:00+01:00")).toEqual([true, false]);
  expect(holds("2026-11-30T10:00:00+01:00")).toEqual([false, true]);
  expect(holds("2026-11-30T20:00:00+01:00")).toEqual([false, false]);
});

test("what is wrong is named with its key", () => {
  const problems = (table: Readonly<Record<string, unknown>>) =>
    machineTable
      .safeParse({ ...needed, ...table })
      .error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  expect(problems({ MachineName: "auto" })).toEqual([
    expect.stringMatching(/^MachineName: expected a name with one %s/),
  ]);
  expect(problems({ MachineName: "my_%s" })).toEqual([expect.stringMatching(/^MachineName: may have letters/)]);
  expect(problems({ MachineDriver: "" })).toEqual([expect.stringMatching(/^MachineDriver: is empty/)]);
  expect(problems({ OffPeakPeriods: ["* *"] })).toEqual([
    expect.stringMatching(/^OffPeakPeriods\.0: "\* \*" is no period/),
  ]);
  expect(problems({ autoscaling: [{ Periods: ["* * * * *"], Timezone: "Mars" }] })).toEqual([
    expect.stringMatching(/^autoscaling\.0\.Timezone: "Mars" is no time zone/),
  ]);
  expect(machineTable.safeParse({ MachineName: "auto-%s" }).success).toBe(false);
});

test("options become flags of docker-machine, with the machine's name where they want it", () => {
  const table = machineTable.parse({
    ...needed,
    MachineOptions: ["a=b", "--c"],
    MachineOptionsWithName: ["tags=Name,%s"],
  });
  expect(createFlags(table, "m-1")).toEqual(["--a=b", "--c", "--tags=Name,m-1"]);
  expect([removalAttempts(table), removalAttempts({ MaxRemovalAttempts: 4 })]).toEqual([30, 4]);
});

test("every key of the example is one of the table, and every flag has a key", () => {
  const example = readFileSync(join(import.meta.dirname, "../../../config.example.toml"), "utf8");
  const [, block = ""] = /# \[runners\.machine\]\n((?: {2}# {3}.*\n)+)/.exec(example) ?? [];
  const parsed = parseToml(`[runners.machine]\n${block.replace(/^ {2}# {3}/gm, "").replace(/^ *# .*$/gm, "")}`);
  const { runners } = z.object({ runners: z.object({ machine: z.record(z.string(), z.unknown()) }) }).parse(parsed);
  const known = Object.keys(machineTable.parse(needed));
  expect(Object.keys(runners.machine).filter((key) => !known.includes(key) && key !== "shutdown_drain")).toEqual([]);
  expect(machineTable.safeParse(runners.machine).error).toBeUndefined();
  for (const { key } of machineFlags) expect(known).toContain(key.replace("machine.", ""));
});
