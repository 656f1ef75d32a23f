import { Stop } from "../errors.ts";
import type { Executor } from "../executor/executor.ts";
import { deadline, never, unlessAborted } from "../time.ts";

/** Longest that the end of an executor holds up the end of its entry. */
const LIMIT_MS = 30_000;

/** Closes an executor whose last job is over. What it cannot let go of in time stays. */
export async function closeExecutor(
  executor: Pick<Executor, "close" | "closeMs">,
  limitMs = executor.closeMs ?? LIMIT_MS,
): Promise<void> {
  const tooLong = new Stop("timed_out", `closing an executor took longer than ${limitMs / 1000} s`);
  using limit = deadline(never, limitMs, tooLong);
  await unlessAborted(executor.close(limit.signal), limit.signal);
}
