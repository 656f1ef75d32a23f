import { describeError, Stop } from "../../../src/errors.ts";
import type { Environment } from "../../../src/executor/environment.ts";
import type { PrepareRequest } from "../../../src/executor/prepare.ts";
import type { Log } from "../../../src/log.ts";
import { deadline, never } from "../../../src/time.ts";
import { cleanUpJob } from "../clean-up/clean-up.ts";
import type { JobUses } from "../kept/uses.ts";
import type { HeldMeans } from "../means.ts";
import type { NetworkLoan, PooledNetwork } from "./network/network-pool.ts";
import type { Slot } from "./slots.ts";

/** Longest removal of what was half prepared. */
const UNDO_LIMIT_MS = 60_000;

/** What a job holds of an engine from the beginning of its preparation to the end of its clean-up. */
export interface Stay {
  readonly slot: number;
  readonly network: NetworkLoan;
  readonly uses: JobUses;
  /** Once; asked again it waits for the same, or tries again what failed. */
  readonly destroy: (signal: AbortSignal) => Promise<void>;
}

/**
 * A job's stay at an engine, where `prepare` makes what it runs in. All of it goes where that fails.
 * @param means let go of with the stay
 */
export async function stayAt(
  means: HeldMeans,
  request: PrepareRequest,
  log: Log,
  prepare: (stay: Stay) => Promise<Environment>,
  signal: AbortSignal,
): Promise<Environment> {
  const { engine, slots, sweeper, networks } = means;
  const uses = means.uses.forJob();
  const { jobKey, runnerId, job } = request;
  const slot = await slots.take(engine, runnerId, job.projectId, signal).catch(async (error: unknown) => {
    await means.free();
    throw error;
  });
  const network = networks.forJob(runnerId);
  const leave = (): void => void means.free();
  const remove = remover(means, jobKey, slot, { network, uses });
  const destroy = async (until: AbortSignal): Promise<void> => {
    await remove(until);
    await means.free();
  };
  try {
    return await prepare({ slot: slot.number, network, uses, destroy });
  } catch (error) {
    using limit = deadline(never, UNDO_LIMIT_MS, new Stop("timed_out", "clean-up took too long"));
    const removed = await remove(limit.signal).then(
      () => true,
      (cause: unknown) => {
        log.warn("what was prepared for a job could not be removed", { problem: describeError(cause) });
        return false;
      },
    );
    // A request that was given up may still be carried out. What could not be removed is looked after already.
    if (removed && signal.aborted) sweeper.suspect(engine, jobKey, leave);
    else if (removed) await means.free();
    throw error;
  }
}

/**
 * A job's stay at an engine that began with an earlier process. Where it cannot be gone on with, all of it is left as it is.
 * @param means let go of with the stay
 */
export async function returnTo(
  means: HeldMeans,
  { jobKey, runnerId, job }: Pick<PrepareRequest, "jobKey" | "runnerId" | "job">,
  { slot: number, network: its }: { readonly slot: number; readonly network: PooledNetwork | null },
  adopt: (stay: Stay) => Promise<Environment>,
): Promise<Environment> {
  const slot = means.slots.retake(runnerId, job.projectId, number);
  const network = means.networks.forJob(runnerId);
  if (its !== null) network.retake(its);
  const uses = means.uses.forJob();
  const remove = remover(means, jobKey, slot, { network, uses });
  const destroy = async (until: AbortSignal): Promise<void> => {
    await remove(until);
    await means.free();
  };
  try {
    return await adopt({ slot: number, network, uses, destroy });
  } catch (error) {
    slot[Symbol.dispose]();
    uses.end();
    await means.free();
    throw error;
  }
}

function remover(
  means: HeldMeans,
  jobKey: string,
  slot: Slot,
  { network, uses }: Pick<Stay, "network" | "uses">,
): (signal: AbortSignal) => Promise<void> {
  const { engine, sweeper } = means;
  let work: Promise<void> | null = null;
  const free = (): void => slot[Symbol.dispose]();
  const remove = async (signal: AbortSignal): Promise<void> => {
    try {
      await cleanUpJob(engine, jobKey, { onQuiet: free }, signal);
      network.giveBack(true);
    } catch (error) {
      work = null;
      network.giveBack(false);
      // Containers that are left hold what they are made of by themselves.
      uses.end();
      // Something of it may still run in the builds directory: nobody else gets that meanwhile.
      sweeper.suspect(engine, jobKey, () => {
        free();
        void means.free();
      });
      throw error;
    }
    uses.end();
    free();
  };
  return (signal) => {
    work ??= remove(signal);
    return work;
  };
}
