import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { AdoptRequest, PrepareRequest } from "../../src/executor/prepare.ts";
import { deadline } from "../../src/time.ts";
import { beforeAbort } from "./processes/forward.ts";

/** No job waits longer than this for the end of another one's clean-up. */
const WAIT_MS = 15_000;

/** A job that has a slot. */
interface Stay {
  /** Settles with the clean-up that is under way; `null` while the job works, or where its clean-up failed. */
  leaving: Promise<void> | null;
}

/** The slots of one project, each with the job that has it. */
type Slots = Map<number, Stay>;

/**
 * Wraps `executor`: a job waits a while for a place whose last job is still being cleaned up. The checkout and the caches of
 * that job are there, while another place would be empty.
 */
export function handingOver(executor: Executor, waitMs = WAIT_MS): Executor {
  const projects = new Map<string, Slots>();

  const waitForPlace = async (slots: Slots, signal: AbortSignal): Promise<void> => {
    using limit = deadline(signal, waitMs, new Error("the clean-up takes too long"));
    while (!limit.signal.aborted) {
      let lowest = 0;
      while (slots.get(lowest)?.leaving === null) lowest++;
      const leaving = slots.get(lowest)?.leaving;
      if (leaving === undefined || leaving === null) return;
      await beforeAbort(leaving, limit.signal);
    }
    signal.throwIfAborted();
  };

  /** The same environment, with its stay written down. */
  const watched = (environment: Environment, key: string, slots: Slots): Environment => {
    const { projectSlot } = environment;
    const stay: Stay = { leaving: null };
    slots.set(projectSlot, stay);
    const end = (): void => {
      // The next job may have the slot by then.
      if (slots.get(projectSlot) === stay) slots.delete(projectSlot);
      if (slots.size === 0 && projects.get(key) === slots) projects.delete(key);
    };
    return {
      ...environment,
      destroy: async (signal) => {
        const removal = environment.destroy(signal);
        stay.leaving = removal.then(end, () => {
          stay.leaving = null;
        });
        await removal;
      },
    };
  };

  const { adopt } = executor;
  return {
    ...executor,
    ...(adopt === undefined
      ? {}
      : {
          adopt: async (request, handle, signal) => {
            const environment = await adopt.call(executor, request, handle, signal);
            const key = projectOf(request);
            const slots: Slots = projects.get(key) ?? new Map();
            projects.set(key, slots);
            return watched(environment, key, slots);
          },
        }),
    prepare: async (request, notes, signal) => {
      const key = projectOf(request);
      const known = projects.get(key);
      if (known !== undefined) await waitForPlace(known, signal);
      const environment = await executor.prepare(request, notes, signal);
      const slots: Slots = projects.get(key) ?? new Map();
      projects.set(key, slots);
      return watched(environment, key, slots);
    },
  };
}

/** Jobs of one project on one machine share its places. */
function projectOf({
  job,
  runnerId,
  projectPath,
  reservation,
}: AdoptRequest & Pick<PrepareRequest, "reservation">): string {
  return JSON.stringify([runnerId, job.projectId, projectPath, reservation?.name]);
}
