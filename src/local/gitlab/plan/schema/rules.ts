import { z } from "zod";
import { anything, atMost, flag, scalar, text, texts, WEEK } from "./words.ts";

/** Keywords that decide: `needs`, rules of jobs and of the workflow, and variables. */

const need = z.union(
  [
    text,
    z.strictObject({
      job: text.optional(),
      artifacts: flag.optional(),
      optional: flag.optional(),
      parallel: z.strictObject({ matrix: z.array(anything) }).optional(),
      pipeline: text.optional(),
      project: text.optional(),
      ref: text.optional(),
    }),
  ],
  "the name of a job, or a table with job",
);
export const needs = z.union(
  [z.array(need), z.strictObject({ pipeline: text, job: text.optional(), artifacts: flag.optional() })],
  "a list of jobs",
);
const ruleBase = {
  if: text.optional(),
  changes: z.unknown().optional(),
  exists: z.unknown().optional(),
  variables: z
    .record(
      z.string(),
      z.union([z.string(), z.number(), z.boolean()], "a text, a number, true or false"),
      "a table of names and values",
    )
    .optional(),
  needs: needs.optional(),
  start_in: atMost(WEEK, "one week").optional(),
  allow_failure: flag.optional(),
};
const ruleWhen = z.enum(
  ["on_success", "on_failure", "always", "never", "manual", "delayed"],
  "one of on_success, on_failure, always, never, manual, delayed",
);
export const ruleSchema = z.strictObject(
  { ...ruleBase, when: ruleWhen.optional(), interruptible: flag.optional() },
  "a table",
);

const autoCancel = z.strictObject(
  {
    on_new_commit: z.enum(["conservative", "interruptible", "none"], "conservative, interruptible or none").optional(),
    on_job_failure: z.enum(["none", "all"], "none or all").optional(),
  },
  "a table",
);
export const workflowSchema = z.strictObject(
  {
    name: text.max(255, "at most 255 characters").optional(),
    rules: z.array(z.unknown(), "a list of rules").optional(),
    auto_cancel: autoCancel.optional(),
  },
  "a table",
);
export const workflowRuleSchema = z.strictObject(
  { ...ruleBase, when: z.enum(["always", "never"], "always or never").optional(), auto_cancel: autoCancel.optional() },
  "a table",
);

/** The form of root variables; those of jobs have only its first and last keys. */
export const variableSchema = z.strictObject({
  value: scalar.optional(),
  description: text.optional(),
  options: texts.optional(),
  expand: flag.optional(),
});
