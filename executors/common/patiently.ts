import { SystemFailure } from "../../src/errors.ts";
import { backoff, pause } from "../../src/time.ts";

/** As long as nobody answers: that says nothing about what is there. */
export async function patiently<T>(body: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const waits = backoff({ firstMs: 500, maxMs: 5000 });
  for (;;) {
    try {
      return await body();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof SystemFailure) || !error.retry) throw error;
      await pause(waits.next(), signal);
    }
  }
}
