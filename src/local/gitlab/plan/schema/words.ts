import { z } from "zod";
import { durationSeconds } from "../../read/duration.ts";

/** What keywords are made of; each message says what is expected, as in "must be …". */

export const text = z.string("a text");
export const texts = z.array(text, "a list of texts");
export const flag = z.boolean("true or false");
export const textOrTexts = z.union([text, texts], "a text, or a list of texts");
/** Texts in it are looked at where it is made flat. */
export const script = z.union([text, z.array(z.unknown())], "a text, or a list of texts");
export const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()], "a text, a number, true or false");
export const codes = z.union(
  [z.int(), z.array(z.int("a whole number"), "a list")],
  "a whole number, or a list of them",
);
/** A table whose keys are checked by the runner, or by nobody. */
export const anything = z.record(z.string(), z.unknown(), "a table");

const duration = z
  .string("a duration such as 1h 30m")
  .refine((value) => durationSeconds(value) !== undefined, "a duration such as 1h 30m");
export const expiry = z
  .string("a duration such as 3 days, or never")
  .refine((value) => value === "never" || durationSeconds(value) !== undefined, "a duration such as 3 days, or never");
export const WEEK = 7 * 24 * 3600;
export const MONTH = 30 * 24 * 3600;
export const atMost = (seconds: number, what: string) =>
  duration.refine((value) => (durationSeconds(value) ?? 0) <= seconds, `at most ${what}`);
