import { describeError } from "../../../errors.ts";
import type { Log } from "../../../log.ts";

/** A bug of ours that ended a job: its operator finds in the log what the trace does not show. */
export function logUnexpected(log: Log, error: unknown): void {
  log.error("an unexpected error in the runner ended a job", {
    problem: describeError(error),
    stack: error instanceof Error ? error.stack : undefined,
  });
}
