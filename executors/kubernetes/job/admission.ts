import { describeError } from "../../../src/errors.ts";
import type { Reservation } from "../../../src/executor/prepare.ts";
import type { Log } from "../../../src/log.ts";

/** An answer of the cluster holds for this long; then the cluster is asked again. */
const AGAIN_MS = 10_000;

/** The cluster decides whether there is room for a pod; the runner does not count it. */
const room: Reservation = { name: "a pod", [Symbol.asyncDispose]: async () => {} };

/**
 * Asks for no job before `check` has succeeded once: what is wrong with login and rights is told to whoever runs the runner, and not
 * job by job to those who wait for theirs.
 */
export function createAdmission(check: (signal: AbortSignal) => Promise<void>, log: Log) {
  let fine = false;
  let said = "";
  let failedAt = -Infinity;
  return {
    reserve: async (signal: AbortSignal): Promise<Reservation | null> => {
      if (fine) return room;
      if (performance.now() - failedAt < AGAIN_MS) return null;
      try {
        await check(signal);
      } catch (error) {
        signal.throwIfAborted();
        failedAt = performance.now();
        const problem = describeError(error);
        if (problem !== said) log.error("no job is asked for: the cluster cannot be used", { problem });
        said = problem;
        return null;
      }
      if (said !== "") log.info("the cluster can be used: jobs are asked for");
      fine = true;
      return room;
    },
  };
}
