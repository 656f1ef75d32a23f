import { z } from "zod";
import { describeError } from "../../src/errors.ts";
import type { Log } from "../../src/log.ts";
import { deadline } from "../../src/time.ts";
import { containerCommands, runForText } from "./commands.ts";
import { startContainer } from "./container.ts";
import type { Engine } from "./engine.ts";
import { LABELS, type Owner } from "./labels.ts";
import { REMOVED, removePlace } from "./prepare-places.ts";
import { processesOf } from "./processes.ts";
import {
  endContainer,
  type FoundContainer,
  type FoundThings,
  findNetworks,
  findThings,
  type Removed,
  removeNetwork,
  removeThings,
} from "./remove.ts";

/** Longest removal of a job's temporary files; they are few. */
const FILES_LIMIT_MS = 15_000;

export interface CleanedUp extends Removed {
  /** Of the job, as far as could be counted, in containers that still ran. */
  readonly processes: number;
  readonly temporaryFiles: boolean;
}

/**
 * Remove all of one job that is at this daemon: first what runs its scripts, then its temporary files by the helper container,
 * then the rest. Once files are gone `onQuiet` is told: nothing of the job touches its builds directory any more.
 * @throws {SystemFailure} something is still there
 */
export async function cleanUpJob(
  engine: Engine,
  jobKey: string,
  { log, onQuiet = () => {}, counting = false }: { log: Log; onQuiet?: () => void; counting?: boolean },
  signal: AbortSignal,
): Promise<CleanedUp> {
  const things = await findThings(engine, { [LABELS.jobKey]: jobKey }, signal);
  // One that never ran has left no files; the build container serves where there is no helper.
  const able = things.containers.filter(({ labels, started }) => started && (labels[LABELS.tmpDir] ?? "") !== "");
  const helper = able.find(({ labels }) => labels[LABELS.role] === "helper") ?? able[0];
  const processes = counting ? await countProcesses(engine, things.containers, signal) : 0;
  let temporaryFiles = false;
  const others = things.containers.filter((one) => one !== helper);
  if (helper !== undefined) {
    await Promise.allSettled(others.map(({ id }) => endContainer(engine, id, signal)));
    temporaryFiles = await removeTmpDir(engine, helper, signal).catch((error: unknown) => {
      // The next job in this place removes them before it starts.
      log.warn("The temporary files of a job stay until the next one comes", { error: describeError(error) });
      return false;
    });
  }
  if (helper !== undefined) onQuiet();
  const removed = await removeThings(engine, things, signal);
  onQuiet();
  return { ...removed, processes, temporaryFiles };
}

async function removeTmpDir(engine: Engine, helper: FoundContainer, signal: AbortSignal): Promise<boolean> {
  const { [LABELS.tmpDir]: tmpDir = "", [LABELS.buildsDir]: buildsDir = "" } = helper.labels;
  if (!buildsDir.startsWith("/") || !tmpDir.startsWith(`${buildsDir}/`)) return false;
  using limit = deadline(signal, FILES_LIMIT_MS, new Error("it took too long"));
  const tidies = (helper.labels[LABELS.tidies] ?? "") !== "";
  if (helper.running && tidies && (await endTidily(engine, helper, limit.signal))) return true;
  if (!helper.running) await startContainer(engine, helper.id, "the helper container", limit.signal);
  // In the job's image only the job's user does anything.
  const root = helper.labels[LABELS.role] === "helper" ? { user: "0" } : {};
  const commands = containerCommands({ engine, container: helper.id, name: "the helper container", ...root });
  const { script, args } = removePlace(buildsDir, tmpDir);
  const { code, stderr } = await runForText(commands, { script, args: args.map(latin1) }, limit.signal);
  if (code !== 0) throw new Error(stderr.trim().slice(-300) || `status ${code}`);
  return true;
}

/** For the first process to remove them itself: that costs no exec. */
const TIDY_LIMIT_MS = 8000;
const waitSchema = z.object({ StatusCode: z.number() });

/** @returns whether the helper has removed the temporary files; it may run, then, or not */
async function endTidily(engine: Engine, { id }: FoundContainer, signal: AbortSignal): Promise<boolean> {
  using limit = deadline(signal, TIDY_LIMIT_MS, new Error("it took too long"));
  try {
    await engine.call(
      "end the helper container",
      (docker, abortSignal) => docker.getContainer(id).kill({ signal: "SIGTERM", abortSignal }),
      limit.signal,
    );
    const answer = await engine.call(
      "wait for the helper container",
      (docker, abortSignal) => docker.getContainer(id).wait({ abortSignal }),
      limit.signal,
    );
    return waitSchema.parse(answer).StatusCode === REMOVED;
  } catch {
    signal.throwIfAborted();
    return false;
  }
}

function latin1(text: string): string {
  return Buffer.from(text).toString("latin1");
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
