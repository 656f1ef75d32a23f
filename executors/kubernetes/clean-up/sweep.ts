import { describeError } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import type { Api } from "../api/client.ts";
import type { Owner } from "../pod/labels.ts";
import { abandonedJobs, cleanUpJob, within } from "./clean-up.ts";

/** Where a job's things are. */
export interface Whereabouts {
  readonly api: Api;
  readonly namespace: string;
}

/** Looks after what jobs left in the cluster although they should not have. */
export interface Sweeper {
  /** Once in a while, in the background: what dead processes of this installation have left in this namespace. */
  look(place: Whereabouts, owner: Owner): void;
  /**
   * A job's clean-up failed, or may have missed something that was just being made: look again later.
   * @param onEnd told once nothing of it is there any more, or all tries are used up
   */
  suspect(place: Whereabouts, jobKey: string, onEnd?: () => void): void;
  /**
   * The job gets a pod again: what it may have left is removed now, and not looked for any more, as what is there later is its own.
   * @param waitMs how long until that is gone
   * @throws {SystemFailure} it could not be removed; it is looked for again
   */
  settle(jobKey: string, waitMs: number, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

interface Suspect {
  readonly place: Whereabouts;
  readonly jobKey: string;
  readonly onEnd: () => void;
  /** Ends the looks. */
  readonly settled: AbortController;
  looking: Promise<void>;
}

/** Time from the first job to the first look: by then the jobs in the journal have been cleaned up after. */
const FIRST_MS = 30_000;
const EVERY_MS = 600_000;
/** Pauses before the tries to find what a suspected job has left. */
const AGAIN_MS = [3000, 20_000, 120_000, 600_000, 3_600_000];
const LIMIT_MS = 120_000;

/** @param isKept whether the job of a key may be gone on with, whichever process has made its pod */
export function createSweeper(
  graceSeconds: number,
  log: Log,
  isKept: (jobKey: string) => boolean = () => false,
): Sweeper {
  const over = new AbortController();
  const suspects = new Set<Suspect>();
  const timers = new Set<NodeJS.Timeout>();
  const running = new Set<Promise<void>>();
  const looked = new Map<string, number>();

  const later = (ms: number, body: (signal: AbortSignal) => Promise<void>): void => {
    if (over.signal.aborted) return;
    const timer = setTimeout(() => {
      timers.delete(timer);
      const work = within(LIMIT_MS, over.signal, body).finally(() => running.delete(work));
      running.add(work);
    }, ms);
    timer.unref();
    timers.add(timer);
  };

  const end = (suspect: Suspect): void => {
    if (suspects.delete(suspect)) suspect.onEnd();
  };

  const retry = (suspect: Suspect, attempt: number): void => {
    const { place, jobKey, settled } = suspect;
    const waitMs = AGAIN_MS[attempt];
    if (waitMs === undefined) {
      log.error("gave up removing what a job left in the cluster", { job_key: jobKey, namespace: place.namespace });
      end(suspect);
      return;
    }
    const look = async (signal: AbortSignal): Promise<void> => {
      try {
        const { pods } = await cleanUpJob({ ...place, jobKey, graceSeconds, waitMs: Infinity }, signal);
        if (pods > 0) log.info("removed what a job had left", { job_key: jobKey, pods });
      } catch {
        if (!over.signal.aborted && !settled.signal.aborted) retry(suspect, attempt + 1);
        return;
      }
      end(suspect);
    };
    later(waitMs, async (signal) => {
      if (settled.signal.aborted) return;
      suspect.looking = look(AbortSignal.any([signal, settled.signal]));
      await suspect.looking;
    });
  };

  const suspect = (place: Whereabouts, jobKey: string, onEnd: () => void): void => {
    const one = { place, jobKey, onEnd, settled: new AbortController(), looking: Promise.resolve() };
    suspects.add(one);
    retry(one, 0);
  };

  return {
    look: ({ api, namespace }, owner) => {
      const now = performance.now();
      const last = looked.get(namespace);
      if (last !== undefined && now - last < EVERY_MS) return;
      looked.set(namespace, now);
      later(FIRST_MS, async (signal) => {
        try {
          for (const jobKey of await abandonedJobs(api, namespace, owner, signal)) {
            if (isKept(jobKey)) continue;
            const { pods } = await cleanUpJob({ api, namespace, jobKey, graceSeconds, waitMs: 0 }, signal);
            log.info("removed what a job of an earlier runner process had left", { job_key: jobKey, pods });
          }
        } catch (error) {
          if (!over.signal.aborted) log.warn("Cannot clean up after dead jobs", { problem: describeError(error) });
        }
      });
    },
    suspect: (place, jobKey, onEnd = () => {}) => suspect(place, jobKey, onEnd),
    settle: async (jobKey, waitMs, signal) => {
      for (const one of [...suspects].filter((other) => other.jobKey === jobKey)) {
        const { place, onEnd, settled } = one;
        settled.abort(new Error("the job goes on"));
        await one.looking;
        if (!suspects.delete(one)) continue;
        try {
          await cleanUpJob({ ...place, jobKey, graceSeconds, waitMs }, signal);
        } catch (error) {
          suspect(place, jobKey, onEnd);
          throw error;
        }
        onEnd();
      }
    },
    close: async () => {
      over.abort(new Error("closing"));
      for (const timer of timers) clearTimeout(timer);
      await Promise.allSettled(running);
    },
  };
}
