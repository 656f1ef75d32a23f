import { z } from "zod";
import type { Note } from "../../executor/prepare.ts";

/** Why a job has failed, as the journal's files say it. */
export const failureReason = z.enum([
  "script_failure",
  "runner_system_failure",
  "job_execution_timeout",
  "runner_interrupted",
  "job_canceled",
  "image_pull_failure",
  "runner_configuration_error",
  "runner_external_dependency_failure",
]);

/** What is kept of an executor's things. */
export const note: z.ZodType<Note> = z.record(
  z.string(),
  z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(z.string())]),
);
