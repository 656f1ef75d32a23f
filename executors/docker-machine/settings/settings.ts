import { z } from "zod";
import { type Period, parsePeriod, timezoneComplaint } from "../../scaler/index.ts";

const count = z.number().int().min(0);
const seconds = count.transform((value) => value * 1000);
const factor = z.number().min(0);
const periods = z.array(z.string()).default([]);
/** Of the Go runner's library, where a day of the month and a weekday need not both fit. */
const DAYS = "either";

/** Of `Periods` and `Timezone`, whose names begin with `prefix`. */
function compiled(
  texts: readonly string[],
  timezone: string,
  context: z.RefinementCtx,
  prefix: "" | "OffPeak",
): readonly Period[] {
  const complaint = texts.length === 0 ? null : timezoneComplaint(timezone);
  if (complaint !== null) {
    context.addIssue({ code: "custom", path: [`${prefix}Timezone`], message: complaint });
    return [];
  }
  return texts.flatMap((text, index) => {
    const period = parsePeriod(text, { timezone, days: DAYS });
    if (typeof period !== "string") return [period];
    context.addIssue({ code: "custom", path: [`${prefix}Periods`, index], message: period });
    return [];
  });
}

const idle = {
  IdleCount: count.default(0),
  IdleTime: seconds.default(0),
  IdleScaleFactor: factor.default(0),
  IdleCountMin: count.default(0),
};

const autoscaling = z
  .object({ Periods: periods, Timezone: z.string().default(""), ...idle })
  .transform(({ Periods, Timezone, ...rest }, context) => ({
    ...rest,
    periods: compiled(Periods, Timezone, context, ""),
  }));

/** `[runners.machine]`, with the names that the Go runner and GitLab Runner have for its keys. */
export const machineTable = z
  .object({
    ...idle,
    MaxBuilds: count.default(0),
    MachineDriver: z.string().min(1, 'is empty. Name a driver of docker-machine, such as "amazonec2"'),
    MachineName: z
      .string()
      .refine((name) => name.split("%s").length === 2, 'expected a name with one %s in it, such as "auto-scale-%s"')
      .refine(
        (name) => /^[0-9A-Za-z.-]*$/.test(name.replace("%s", "")),
        "may have letters, digits, dots and hyphens only, as host names do",
      ),
    MachineOptions: z.array(z.string()).default([]),
    MachineOptionsWithName: z.array(z.string()).default([]),
    OffPeakPeriods: periods,
    OffPeakTimezone: z.string().default(""),
    OffPeakIdleCount: count.default(0),
    OffPeakIdleTime: seconds.default(0),
    MaxGrowthRate: count.default(0),
    MaxRemovalAttempts: count.default(0),
    autoscaling: z.array(autoscaling).default([]),
    shutdown_drain: z.object({ enabled: z.boolean().default(false) }).optional(),
  })
  .transform((table, context) => ({
    ...table,
    offPeak: compiled(table.OffPeakPeriods, table.OffPeakTimezone, context, "OffPeak"),
  }));

export type MachineTable = z.infer<typeof machineTable>;
