import type { EntryFlag } from "../../../src/executor/words.ts";

type Row = readonly [flag: string, env: string, key: string, kind: EntryFlag["kind"], help: string];

const rows: readonly Row[] = [
  ["idle-nodes", "IDLE_COUNT", "IdleCount", "integer", "machines that are kept ready; 0: one is made for each job"],
  ["idle-time", "IDLE_TIME", "IdleTime", "integer", "seconds that a machine beyond those stays"],
  ["max-builds", "MAX_BUILDS", "MaxBuilds", "integer", "jobs that a machine gets before it is removed"],
  ["machine-driver", "DRIVER", "MachineDriver", "text", "driver of docker-machine, such as amazonec2"],
  ["machine-name", "NAME", "MachineName", "text", "name of machines, with one %s: auto-scale-%s"],
  ["machine-options", "OPTIONS", "MachineOptions", "list", "option of the driver, key=value; may be repeated"],
  ["max-growth-rate", "MAX_GROWTH_RATE", "MaxGrowthRate", "integer", "machines that are made at the same time"],
  ["idle-count-min", "IDLE_COUNT_MIN", "IdleCountMin", "integer", "idle machines at least, with a factor"],
  ["off-peak-periods", "OFF_PEAK_PERIODS", "OffPeakPeriods", "list", "cron text of quiet times; may be repeated"],
  ["off-peak-timezone", "OFF_PEAK_TIMEZONE", "OffPeakTimezone", "text", "their time zone"],
  ["off-peak-idle-count", "OFF_PEAK_IDLE_COUNT", "OffPeakIdleCount", "integer", "machines kept ready then"],
  ["off-peak-idle-time", "OFF_PEAK_IDLE_TIME", "OffPeakIdleTime", "integer", "seconds that others stay then"],
];

/** The Go runner's and GitLab Runner's flags for `[runners.machine]`. */
export const machineFlags: readonly EntryFlag[] = rows.map(([flag, env, key, kind, help]) => ({
  flag: `machine-${flag}`,
  env: `MACHINE_${env}`,
  key: `machine.${key}`,
  kind,
  help,
}));
