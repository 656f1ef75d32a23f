import { z } from "zod";
import { type Demand, type Period, type Policy, parsePeriod, timezoneComplaint } from "../../scaler/index.ts";
import { count, duration } from "./fields.ts";

/** How long an instance that nobody needs stays where no policy says it. */
export const IDLE_TIME_MS = 300_000;

/** GitLab Runner's: a minute has to fit all fields. */
const DAYS = "both";

/** `[[runners.autoscaler.policy]]` */
export const policyTable = z
  .object({
    periods: z.array(z.string()).default([]),
    timezone: z.string().default(""),
    idle_count: count.default(0),
    idle_time: duration(IDLE_TIME_MS),
    scale_factor: z.number().min(0).default(0),
    scale_factor_limit: count.default(0),
    preemptive_mode: z.boolean().optional(),
  })
  .transform((table, context): Policy => {
    const { idle_count: idle, scale_factor: idleFactor, scale_factor_limit: limit } = table;
    const complaint = timezoneComplaint(table.timezone);
    if (complaint !== null) context.addIssue({ code: "custom", path: ["timezone"], message: complaint });
    const texts = complaint === null ? table.periods : [];
    const periods = texts.flatMap((text, index): Period[] => {
      const period = parsePeriod(text, { timezone: table.timezone, days: DAYS });
      if (typeof period !== "string") return [period];
      context.addIssue({ code: "custom", path: ["periods", index], message: period });
      return [];
    });
    const demand: Demand = {
      idleLeast: idle,
      idleMost: idleFactor === 0 ? idle : limit === 0 ? Number.POSITIVE_INFINITY : Math.max(idle, limit),
      idleFactor,
      idleTimeMs: table.idle_time,
      preemptive: table.preemptive_mode ?? idle > 0,
    };
    return { periods, demand };
  });
