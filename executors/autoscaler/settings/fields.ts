import { z } from "zod";
import { parseDuration } from "../../../src/config/units.ts";

const LONGEST_MS = 365 * 86_400_000;

/** Text with a unit, or whole seconds; where it is absent, `absent` holds. */
export const duration = (absentMs: number) =>
  z
    .union([z.string(), z.int()])
    .optional()
    .transform((value, context): number => {
      if (value === undefined) return absentMs;
      const ms = typeof value === "number" ? value * 1000 : parseDuration(value);
      if (ms !== null && ms >= 0 && ms <= LONGEST_MS) return ms;
      const message = 'expected a duration such as "90s", "15m" or "20m0s", or whole seconds';
      context.addIssue({ code: "custom", message });
      return z.NEVER;
    });

/** The same where zero stands for what holds by default, too. */
export const durationOr = (fallbackMs: number) => duration(fallbackMs).transform((ms) => ms || fallbackMs);

export const count = z.int().min(0);

/** Where zero stands for as many as there may be. */
export const unlimited = count.default(0).transform((value) => value || Number.POSITIVE_INFINITY);

export const fingerprint = z
  .string()
  .regex(/^SHA256:[A-Za-z0-9+/]{43}=?$/, "expected a fingerprint as ssh-keygen -l prints it: SHA256:…");
