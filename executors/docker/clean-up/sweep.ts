import { describeError, Stop } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import { deadline } from "../../../src/time.ts";
import type { Engine } from "../engine/engine.ts";
import type { Owner } from "../engine/labels.ts";
import { abandonedJobs, cleanUpJob, removeAbandonedNetworks } from "./clean-up.ts";

/** Looks after what jobs left at the daemon although they should not have. */
export interface Sweeper {
  /** Looks once in a while, in the background, for things of dead processes of this installation. */
  look(engine: Engine): void;
  /**
   * A job's clean-up failed, or may have missed something that was just being made: look again later.
   * @param onEnd told once nothing of it is there any more, or all tries are used up
   */
  suspect(engine: Engine, jobKey: string, onEnd?: () => void): void;
  close(): Promise<void>;
}

interface SweepTiming {
  /** From the first job to the first look: what the journal knows of is cleaned up by then. */
  readonly firstMs: number;
  readonly everyMs: number;
  /** Before each try for a suspect. */
  readonly againMs: readonly number[];
}

const TIMING: SweepTiming = { firstMs: 30_000, everyMs: 600_000, againMs: [3000, 20_000, 120_000, 600_000, 3_600_000] };
const LIMIT_MS = 120_000;

/** @param isKept whether the job of a key may be gone on with, whichever process has made what it has */
export function createSweeper(
  owner: Owner,
  log: Log,
  isKept: (jobKey: string) => boolean = () => false,
  timing: SweepTiming = TIMING,
): Sweeper {
  const over = new AbortController();
  const timers = new Set<NodeJS.Timeout>();
  const running = new Set<Promise<void>>();
  let next = 0;
  let planned = false;

  const later = (ms: number, body: (signal: AbortSignal) => Promise<void>): void => {
    if (over.signal.aborted) return;
    const timer = setTimeout(() => {
      timers.delete(timer);
      const run = async (): Promise<void> => {
        using limit = deadline(over.signal, LIMIT_MS, new Stop("timed_out", "clean-up took too long"));
        await body(limit.signal);
      };
      const work = run().finally(() => running.delete(work));
      running.add(work);
    }, ms);
    timer.unref();
    timers.add(timer);
  };

  const sweep = async (engine: Engine, signal: AbortSignal): Promise<void> => {
    try {
      for (const jobKey of await abandonedJobs(engine, owner, signal)) {
        if (isKept(jobKey)) continue;
        const { containers } = await cleanUpJob(engine, jobKey, {}, signal);
        log.info("removed what a job of an earlier runner process had left", { job_key: jobKey, containers });
      }
      await removeAbandonedNetworks(engine, owner, signal);
    } catch (error) {
      if (!over.signal.aborted) log.warn("Cannot clean up after dead jobs", { error: describeError(error) });
    }
  };

  const retry = (engine: Engine, jobKey: string, attempt: number, onEnd: () => void): void => {
    const waitMs = timing.againMs[attempt];
    if (waitMs === undefined) {
      log.error("gave up removing what a job left at the container engine", { job_key: jobKey });
      onEnd();
      return;
    }
    later(waitMs, async (signal) => {
      try {
        const { containers } = await cleanUpJob(engine, jobKey, {}, signal);
        if (containers > 0) log.info("removed what a job had left", { job_key: jobKey, containers });
      } catch {
        if (!over.signal.aborted) retry(engine, jobKey, attempt + 1, onEnd);
        return;
      }
      onEnd();
    });
  };

  return {
    look: (engine) => {
      if (planned) return;
      planned = true;
      later(Math.max(timing.firstMs, next - performance.now()), async (signal) => {
        planned = false;
        next = performance.now() + timing.everyMs;
        await sweep(engine, signal);
      });
    },
    suspect: (engine, jobKey, onEnd = () => {}) => retry(engine, jobKey, 0, onEnd),
    close: async () => {
      over.abort(new Error("closing"));
      for (const timer of timers) clearTimeout(timer);
      await Promise.allSettled(running);
    },
  };
}
