import { troubleOf } from "../coordinator/contract.ts";
import { describeError } from "../errors.ts";
import { retry } from "../time.ts";
import type { TransferContext } from "./transfer.ts";

/** A server that says it is busy gets more tries than one that fails. */
const TRIES = 3;
const TRIES_WHEN_BUSY = 6;

interface Tries extends Pick<TransferContext, "trace" | "retryPauseMs"> {
  /** The job's own number of tries; it counts if it is larger. */
  readonly attempts?: number;
}

/**
 * Repeats a call that may work later, with growing pauses or those that its server asks for, and says so in the trace.
 */
export async function withTries<T>(
  { trace, retryPauseMs, attempts = 1 }: Tries,
  body: (attempt: number) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const most = (error: unknown): number =>
    Math.max(attempts, troubleOf(error)?.kind === "busy" ? TRIES_WHEN_BUSY : TRIES);
  return await retry(
    {
      attempts: most,
      firstMs: retryPauseMs * 2,
      maxMs: retryPauseMs * 10,
      leastMs: (error) => troubleOf(error)?.retryAfterMs ?? 0,
      onRetry: (error, attempt) =>
        trace.print(`${describeError(error)}. Trying again (${attempt} of ${most(error)} tries failed)`, "warning"),
    },
    body,
    signal,
  );
}
