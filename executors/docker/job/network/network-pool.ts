import { randomBytes } from "node:crypto";
import { z } from "zod";
import { describeError } from "../../../../src/errors.ts";
import type { Log } from "../../../../src/log.ts";
import { backoff, deadline, never } from "../../../../src/time.ts";
import { removeNetwork } from "../../container/remove.ts";
import { type Engine, isGone } from "../../engine/engine.ts";
import { networkLabels, type Owner } from "../../engine/labels.ts";
import type { DockerSettings } from "../../settings/settings.ts";
import { createNetwork } from "./network.ts";

export interface PooledNetwork {
  readonly id: string;
  /** Only its id is sure to be its alone. */
  readonly name: string;
}

/** A network that one job has to itself, from `take` to `giveBack`. */
export interface NetworkLoan {
  /** @returns the same one each time */
  take(signal: AbortSignal): Promise<PooledNetwork>;
  /** One that an earlier process has made. It goes on to no other job: whoever sweeps takes it for that process's. */
  retake(network: PooledNetwork): void;
  /** @param clean everything that the job had in it is gone: another one may have it */
  giveBack(clean: boolean): void;
}

/**
 * Networks of jobs. Each belongs to one job at a time and goes on to the next when it is empty: an engine makes and removes
 * one with dozens of calls of iptables, for which all its other work waits. What nobody wants for a while is removed.
 */
export interface NetworkPool {
  forJob(runnerId: string): NetworkLoan;
  /** Removes those that no job has. */
  close(): Promise<void>;
}

export interface PoolTiming {
  readonly idleMs: number;
  /** Between looks at what is idle or could not be removed. */
  readonly lookMs: number;
}

const TIMING: PoolTiming = { idleMs: 3000, lookMs: 1000 };
/** Address ranges of an engine are few: 31 by default. */
const MOST_IDLE = 10;
const REMOVE_LIMIT_MS = 10_000;
/** For so long a creation that was given up may still be carried out. */
const LATE_MS = 120_000;
/** One that cannot be removed is tried again after so long, at last. */
const LONGEST_PAUSE_MS = 60_000;

const usersSchema = z.object({ Containers: z.record(z.string(), z.unknown()).nullish() });

interface PoolOptions {
  readonly engine: Engine;
  readonly owner: Owner;
  readonly settings: Pick<DockerSettings, "networkMtu" | "enableIpv6">;
  readonly log: Log;
}

interface Unwanted {
  readonly sinceMs: number;
  readonly waits: ReturnType<typeof backoff>;
  /** It is not tried again before. */
  nextMs: number;
  /** Its failure was said in the log once. */
  told: boolean;
}

export function createNetworkPool(
  { engine, owner, settings, log }: PoolOptions,
  timing: PoolTiming = TIMING,
): NetworkPool {
  /** The last one that came is the first to go, so that the others get old enough to be removed. */
  const idle: (PooledNetwork & { readonly sinceMs: number })[] = [];
  /** Ids or names of what must go. */
  const unwanted = new Map<string, Unwanted>();
  let timer: NodeJS.Timeout | undefined;
  let tidying: Promise<void> | null = null;
  let closed = false;

  const discard = (id: string): void => {
    const waits = backoff({ firstMs: timing.lookMs, maxMs: LONGEST_PAUSE_MS });
    unwanted.set(id, { sinceMs: performance.now(), waits, nextMs: 0, told: false });
  };

  const removeOne = async (id: string, one: Unwanted): Promise<void> => {
    using limit = deadline(never, REMOVE_LIMIT_MS, new Error("it took too long"));
    try {
      const found = await removeNetwork(engine, id, limit.signal);
      if (found || performance.now() - one.sinceMs > LATE_MS) unwanted.delete(id);
    } catch (error) {
      const details = { network: id, error: describeError(error) };
      if (one.told || performance.now() - one.sinceMs < LATE_MS) {
        log.debug("a network of jobs cannot be removed yet", details);
      } else {
        one.told = true;
        log.warn("a network of jobs cannot be removed; it is tried again until the runner ends", details);
      }
      one.nextMs = performance.now() + one.waits.next();
    }
  };
  const tidy = async (): Promise<void> => {
    const now = performance.now();
    const old = idle.findLastIndex(({ sinceMs }) => closed || now - sinceMs >= timing.idleMs);
    for (const { id } of idle.splice(0, old + 1)) discard(id);
    const due = [...unwanted].filter(([, { nextMs }]) => closed || nextMs <= now);
    await Promise.all(due.map(async ([id, one]) => await removeOne(id, one)));
  };
  const plan = (): void => {
    if (timer !== undefined || closed || (idle.length === 0 && unwanted.size === 0)) return;
    timer = setTimeout(() => {
      timer = undefined;
      tidying = tidy().finally(() => {
        tidying = null;
        plan();
      });
    }, timing.lookMs);
    timer.unref();
  };

  /** It is still there (`docker network prune` takes idle ones), and nothing is in it. */
  const isReady = async (id: string, signal: AbortSignal): Promise<boolean> => {
    try {
      const answer = await engine.call("look at a network", (docker) => docker.getNetwork(id).inspect(), signal);
      const found = usersSchema.safeParse(answer);
      if (found.success && Object.keys(found.data.Containers ?? {}).length === 0) return true;
      discard(id);
    } catch (error) {
      if (!isGone(error)) {
        discard(id);
        throw error;
      }
    }
    return false;
  };
  const obtain = async (runnerId: string, signal: AbortSignal): Promise<PooledNetwork> => {
    for (let next = idle.pop(); next !== undefined; next = idle.pop()) {
      if (await isReady(next.id, signal)) return next;
    }
    // Older daemons take a name twice.
    const name = `alloy-${runnerId}-${randomBytes(6).toString("hex")}`;
    try {
      const id = await createNetwork(engine, { name, labels: networkLabels(owner, runnerId), settings }, signal);
      return { id, name };
    } catch (error) {
      discard(name);
      throw error;
    }
  };

  return {
    forJob: (runnerId) => {
      let taking: Promise<PooledNetwork> | null = null;
      let taken: PooledNetwork | null = null;
      let lasts = true;
      return {
        retake: (network) => {
          taken = network;
          lasts = false;
        },
        take: (signal) => {
          taking ??= obtain(runnerId, signal)
            .then((found) => {
              taken = found;
              return found;
            })
            .finally(plan);
          return taking;
        },
        giveBack: (clean) => {
          if (taken === null) return;
          if (clean && lasts && !closed && idle.length < MOST_IDLE) idle.push({ ...taken, sinceMs: performance.now() });
          else discard(taken.id);
          taking = null;
          taken = null;
          plan();
        },
      };
    },
    close: async () => {
      closed = true;
      clearTimeout(timer);
      await tidying;
      await tidy();
    },
  };
}
