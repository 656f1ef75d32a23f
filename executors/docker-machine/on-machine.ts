import { describeError, SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor.ts";
import type { Log } from "../../src/log.ts";
import { deadline, never, unlessAborted } from "../../src/time.ts";
import type { Place } from "../scaler/index.ts";

/** How long the question may take whether a machine is still there. */
const ASK_MS = 15_000;

/** An environment on a machine that may go away under it: then nothing that asks the machine is waited for any more. */
export function onMachine<C>(environment: Environment, { id, lost, isThere }: Place<C>, log: Log): Environment {
  const isGone = async (): Promise<boolean> => {
    using limit = deadline(never, ASK_MS, new SystemFailure("it does not say whether it is there"));
    return !(await isThere(limit.signal).catch(() => false));
  };
  return {
    ...environment,
    // Most drivers give the machine its name, which its engine then says.
    host: environment.host.includes(id) ? environment.host : `${environment.host}, machine ${id}`,
    async run(script, output, signal) {
      try {
        return await unlessAborted(environment.run(script, output, AbortSignal.any([signal, lost])), lost);
      } catch (error) {
        if (!signal.aborted && error instanceof SystemFailure && (await isGone())) lost.throwIfAborted();
        throw error;
      }
    },
    async destroy(signal) {
      try {
        await unlessAborted(environment.destroy(signal), lost);
      } catch (error) {
        if (!lost.aborted && (signal.aborted || !(await isGone()))) throw error;
        log.debug("nothing is removed on a machine that is gone", { machine: id, problem: describeError(error) });
      }
    },
  };
}
