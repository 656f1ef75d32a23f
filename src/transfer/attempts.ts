import { TroubleCause } from "../coordinator/contract.ts";
import { describeError, SystemFailure } from "../errors.ts";
import { backoff, pause } from "../time.ts";
import type { TransferContext } from "./transfer.ts";

/** A server that says it is busy is given more time than one that fails. */
const TRIES = 3;
const TRIES_WHEN_BUSY = 6;

/** What a coordinator answered; 0 where no answer came, `undefined` where that was not the trouble. */
export function statusOf(error: unknown): number | undefined {
  const cause = error instanceof SystemFailure ? error.cause : undefined;
  return cause instanceof TroubleCause ? cause.status : undefined;
}

/** Repeat a call that may work later, with growing pauses or those that its server asks for; says so in the trace. */
export async function withTries<T>(
  { trace, retryPauseMs }: Pick<TransferContext, "trace" | "retryPauseMs">,
  body: (attempt: number) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const waits = backoff({ firstMs: retryPauseMs * 2, maxMs: retryPauseMs * 10 });
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted();
    try {
      return await body(attempt);
    } catch (error) {
      const most = statusOf(error) === 503 ? TRIES_WHEN_BUSY : TRIES;
      if (signal.aborted || attempt >= most || !(error instanceof SystemFailure && error.retry)) throw error;
      const asked = error.cause instanceof TroubleCause ? (error.cause.retryAfterMs ?? 0) : 0;
      trace.print(`${describeError(error)}. Trying again (${attempt} of ${most} tries failed)`, "warning");
      await pause(Math.max(waits.next(), asked), signal);
    }
  }
}
