import { describeError, type FailureReason, ScriptFailure, Stop, SystemFailure } from "../../../errors.ts";
import type { Exit } from "../../../executor/environment.ts";
import type { Tone } from "../../../shell.ts";
import type { Outcome } from "../../job.ts";

/** Any outcome but success. */
export type Setback = Exclude<Outcome, { readonly result: "success" }>;

/**
 * What an error makes of a job. The signal is asked first: once it has fired, what was thrown is only its echo.
 * Nothing that is thrown can be a success.
 */
export function outcomeOf(error: unknown, signal: AbortSignal): Setback {
  const cause: unknown = signal.aborted ? signal.reason : error;
  if (cause instanceof Stop) return stopped(cause);
  if (cause instanceof ScriptFailure || cause instanceof SystemFailure) {
    return {
      result: "failed",
      reason: cause instanceof ScriptFailure ? "script_failure" : cause.reason,
      message: describeError(cause),
      ...(cause.exitCode === undefined ? {} : { exitCode: cause.exitCode }),
    };
  }
  return {
    result: "failed",
    reason: "runner_system_failure",
    message: "something unexpected went wrong in the runner; its log has the details",
  };
}

function stopped(stop: Stop): Setback {
  switch (stop.why) {
    case "canceling":
    case "canceled":
      return { result: "canceled", message: stop.message };
    case "timed_out":
      return { result: "failed", reason: "job_execution_timeout", message: stop.message };
    case "shutting_down":
    case "handing_over":
      return { result: "failed", reason: "runner_interrupted", message: stop.message };
  }
}

/** A bug, as opposed to what the job, the platform or a person did. */
export function isUnexpected(error: unknown): boolean {
  return !(error instanceof Stop || error instanceof ScriptFailure || error instanceof SystemFailure);
}

/** `exit status 3`; `signal: SIGKILL (exit status 137)`. */
export function describeExit({ code, signal }: Exit): string {
  if (signal === null) return `exit status ${code}`;
  const hint = signal === "SIGKILL" ? "; the system kills so when memory runs out" : "";
  return `signal: ${signal} (exit status ${code})${hint}`;
}

/** What is no failure of the system, which trying again would mend. */
const OF_THE_JOB: ReadonlySet<FailureReason> = new Set([
  "script_failure",
  "job_execution_timeout",
  "runner_configuration_error",
]);

/** The last line of a job's trace: it always says why. */
export function verdictLine(outcome: Outcome): { readonly text: string; readonly tone: Tone } {
  switch (outcome.result) {
    case "success":
      return { text: "Job succeeded", tone: "notice" };
    case "canceled":
      return { text: `Job failed: canceled${outcome.message === "" ? "" : ` (${outcome.message})`}`, tone: "error" };
    case "failed": {
      const text = `Job failed${OF_THE_JOB.has(outcome.reason) ? "" : " (system failure)"}: ${outcome.message}`;
      return { text, tone: "error" };
    }
  }
}

/** `CI_JOB_STATUS` for scripts that run after the deciding ones. */
export function jobStatus(outcome: Outcome | null): "success" | "failed" | "canceled" | "timedout" {
  if (outcome === null || outcome.result === "success") return "success";
  if (outcome.result === "canceled") return "canceled";
  return outcome.reason === "job_execution_timeout" ? "timedout" : "failed";
}
