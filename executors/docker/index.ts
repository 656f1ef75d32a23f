import { describeError, Stop, SystemFailure } from "../../src/errors.ts";
import { defineExecutor, type Executor, type ExecutorDeps, type Recovered } from "../../src/executor.ts";
import type { ExecutorWords } from "../../src/executor-words.ts";
import type { ShellName } from "../../src/shell.ts";
import { deadline, never, unlessAborted } from "../../src/time.ts";
import { handingOver } from "../common/hand-over.ts";
import { cleanUpJob, removeAbandonedNetworks } from "./clean-up/clean-up.ts";
import { createSweeper, type Sweeper } from "./clean-up/sweep.ts";
import { locationOf } from "./engine/endpoint.ts";
import { connectEngine, type Engine } from "./engine/engine.ts";
import { installationId } from "./engine/installation.ts";
import type { Owner } from "./engine/labels.ts";
import { engineNote, hasEngineNote, notedConnection } from "./engine/noted-engine.ts";
import { createHelperImages } from "./image/helper-image.ts";
import { createAccounts } from "./job/accounts.ts";
import { createNetworkPool, type NetworkLoan, type NetworkPool } from "./job/network-pool.ts";
import { prepareJob } from "./job/prepare-job.ts";
import { createSlots, type Slot } from "./job/slots.ts";
import type { ConnectionSettings, DockerSettings } from "./settings/settings.ts";
import { checkedTable, settingsOf } from "./settings/table.ts";
import { words } from "./words.ts";

const SHELLS = ["bash", "sh", "pwsh"] as const satisfies readonly ShellName[];

/** Longest removal of what was half prepared. */
const UNDO_LIMIT_MS = 60_000;

/** What is found out when the first job comes. */
interface Means {
  readonly engine: Engine;
  readonly owner: Owner;
  readonly slots: ReturnType<typeof createSlots>;
  readonly sweeper: Sweeper;
  readonly networks: NetworkPool;
}

/** How an executor that works with an engine makes a job's surroundings. */
export interface Flavor {
  readonly words: Pick<ExecutorWords, "name" | "title">;
  readonly prepare: typeof prepareJob;
}

export function createDockerExecutor(
  given: DockerSettings,
  deps: ExecutorDeps,
  { words: { name, title }, prepare }: Flavor = { words, prepare: prepareJob },
): Executor {
  const { log, entry, host: around } = deps;
  const settings = entry.ephemeral === true ? { ...given, disableCache: true, volumeKeep: false } : given;
  const helperImages = createHelperImages();
  const accounts = createAccounts();

  const find = async (connection: ConnectionSettings, signal: AbortSignal): Promise<Means> => {
    const installation = await installationId(around.keepDir);
    const owner: Owner = { installation, process: `${process.pid}-${Math.round(performance.timeOrigin)}` };
    const { env, scratch: scratchDir } = around;
    const engine = await connectEngine({ settings: connection, env, scratchDir }, signal);
    log.debug("connected to a container engine", { engine: engine.product, api: engine.apiVersion });
    return {
      engine,
      owner,
      slots: createSlots(owner),
      sweeper: createSweeper(owner, log),
      networks: createNetworkPool({ engine, owner, settings, log }),
    };
  };
  // Asked for anew after a failure: an engine may be started while the runner runs.
  let finding: Promise<Means> | null = null;
  const means = (signal: AbortSignal): Promise<Means> => {
    if (finding === null) {
      // For all jobs that wait for it: the end of one must not be the others'. It has time limits of its own.
      const found = find(settings.connection, never);
      finding = found;
      found.catch(() => {
        if (finding === found) finding = null;
      });
    }
    return unlessAborted(finding, signal);
  };

  const recoverJob = async (engine: Engine, owner: Owner, jobKey: string, signal: AbortSignal): Promise<Recovered> => {
    const options = { counting: true };
    const { processes, containers, networks, volumes } = await cleanUpJob(engine, jobKey, options, signal);
    // Its network went from job to job, and was the dead process's.
    const emptied = networks + (await removeAbandonedNetworks(engine, owner, signal));
    const done = [
      ...(processes > 0 ? [`ended ${counted(processes, "process", "processes")}`] : []),
      ...(containers > 0 ? [`removed ${counted(containers, "container", "containers")}`] : []),
      ...(emptied > 0 ? [`removed ${counted(emptied, "network", "networks")}`] : []),
      ...(volumes > 0 ? [`removed ${counted(volumes, "volume", "volumes")}`] : []),
    ];
    return { done, left: [] };
  };

  /** Once; asked again it waits for the same, or tries again what failed. */
  const destroyer = (
    { engine, sweeper }: Means,
    jobKey: string,
    slot: Slot,
    network: NetworkLoan,
  ): ((signal: AbortSignal) => Promise<void>) => {
    let work: Promise<void> | null = null;
    const free = (): void => slot[Symbol.dispose]();
    const destroy = async (signal: AbortSignal): Promise<void> => {
      try {
        await cleanUpJob(engine, jobKey, { onQuiet: free }, signal);
        network.giveBack(true);
      } catch (error) {
        work = null;
        network.giveBack(false);
        // Something of it may still run in the builds directory: nobody else gets that meanwhile.
        sweeper.suspect(engine, jobKey, free);
        throw error;
      }
      free();
    };
    return (signal) => {
      work ??= destroy(signal);
      return work;
    };
  };

  return handingOver({
    name,
    title,
    features: { variables: true, image: true, services: true, shared: false },
    shell: entry.shell ?? "bash",
    location: locationOf(settings.connection, around.env),
    prepare: async (request, notes, signal) => {
      const found = await means(signal);
      const { engine, owner, slots, sweeper, networks } = found;
      if (engine.os === "windows") {
        throw new SystemFailure(
          `The container engine at ${engine.address} runs Windows containers: only Linux ones are supported`,
          {
            reason: "runner_configuration_error",
          },
        );
      }
      sweeper.look(engine);
      await request.remember(engineNote(engine.address, settings.connection, around.env));
      const slot = await slots.take(engine, request.runnerId, request.job.projectId, signal);
      const network = networks.forJob(request.runnerId);
      const destroy = destroyer(found, request.jobKey, slot, network);
      try {
        return await prepare(
          { engine, settings, deps, owner, helperImages, accounts, request, slot: slot.number, network, destroy },
          notes,
          signal,
        );
      } catch (error) {
        using limit = deadline(never, UNDO_LIMIT_MS, new Stop("timed_out", "clean-up took too long"));
        const removed = await destroy(limit.signal).then(
          () => true,
          (cause: unknown) => {
            log.warn("What was prepared for a job could not be removed", { error: describeError(cause) });
            return false;
          },
        );
        // A request that was given up may still be carried out. What could not be removed is looked after already.
        if (removed && signal.aborted) sweeper.suspect(engine, request.jobKey);
        throw error;
      }
    },
    recover: async (jobKey, notes, signal) => {
      if (!hasEngineNote(notes)) return { done: [], left: [] };
      const elsewhere = await notedConnection(notes, settings.connection, around.env);
      const found = await (elsewhere === null ? means(signal) : find(elsewhere, signal));
      const { engine, owner, sweeper } = found;
      try {
        return await recoverJob(engine, owner, jobKey, signal);
      } finally {
        if (elsewhere === null) sweeper.look(engine);
        else await closeMeans(found);
      }
    },
    close: async () => {
      const found = await finding?.catch(() => null);
      if (found !== null && found !== undefined) await closeMeans(found);
    },
  });
}

async function closeMeans({ engine, sweeper, networks }: Means): Promise<void> {
  await sweeper.close();
  await networks.close();
  await engine.close();
}

function counted(count: number, one: string, more: string): string {
  return `${count} ${count === 1 ? one : more}`;
}

export default defineExecutor({
  ...words,
  tables: [{ name: "docker", required: true, schema: checkedTable }],
  shells: SHELLS,
  // Without a table, after a crash whose entry is gone from the configuration, the engine is where it is by default.
  create: ({ docker }, deps) => createDockerExecutor(settingsOf(docker), deps),
});
