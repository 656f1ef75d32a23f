import { processesOf } from "../container/processes.ts";
import {
  type FoundContainer,
  type FoundThings,
  findNetworks,
  findThings,
  type Removed,
  removeNetwork,
  removeThings,
} from "../container/remove.ts";
import type { Engine } from "../engine/engine.ts";
import { LABELS, type Owner } from "../engine/labels.ts";

interface CleanedUp extends Removed {
  /** How many processes of the job were in containers that still ran, as far as they could be counted. */
  readonly processes: number;
}

/**
 * Remove all of one job that is at this daemon: first what runs its scripts, then the rest. In between `onQuiet` is told: nothing of
 * the job touches its builds directory any more.
 * @throws {SystemFailure} something is still there
 */
export async function cleanUpJob(
  engine: Engine,
  jobKey: string,
  { onQuiet = () => {}, counting = false }: { onQuiet?: () => void; counting?: boolean },
  signal: AbortSignal,
): Promise<CleanedUp> {
  const things = await findThings(engine, { [LABELS.jobKey]: jobKey }, signal);
  const processes = counting ? await countProcesses(engine, things.containers, signal) : 0;
  const removed = await removeThings(engine, things, onQuiet, signal);
  return { ...removed, processes };
}

/** Its first shell and that one's `sleep` belong to the runner. */
const OWN_PROCESSES = 2;

async function countProcesses(
  engine: Engine,
  containers: readonly FoundContainer[],
  signal: AbortSignal,
): Promise<number> {
  const counts = containers
    .filter(({ running, labels }) => running && labels[LABELS.role] !== "service")
    .map(async ({ id }) => {
      const found = await processesOf(engine, id, signal).catch(() => null);
      return Math.max(0, (found?.size ?? 0) - OWN_PROCESSES);
    });
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
}

/**
 * Remove the networks of dead processes of this installation that nothing is in any more.
 * @returns how many
 */
export async function removeAbandonedNetworks(
  engine: Engine,
  { installation, process }: Owner,
  signal: AbortSignal,
): Promise<number> {
  const found = await findNetworks(engine, { [LABELS.installation]: installation, [LABELS.role]: "network" }, signal);
  const theirs = found.filter(({ labels }) => (labels[LABELS.process] ?? process) !== process);
  const removals = await Promise.allSettled(
    theirs.map(async ({ id }) => await removeNetwork(engine, id, signal, { patient: false })),
  );
  return removals.filter((removal) => removal.status === "fulfilled" && removal.value).length;
}

/** Keys of jobs of this installation whose process is not `process`, with anything left at this daemon. */
export async function abandonedJobs(
  engine: Engine,
  { installation, process }: { installation: string; process: string },
  signal: AbortSignal,
): Promise<string[]> {
  const things: FoundThings = await findThings(engine, { [LABELS.installation]: installation }, signal);
  const all = [...things.containers, ...things.networks, ...things.volumes];
  return [
    ...new Set(
      all
        .filter(({ labels }) => (labels[LABELS.process] ?? process) !== process)
        .flatMap(({ labels }) => labels[LABELS.jobKey] ?? []),
    ),
  ];
}
