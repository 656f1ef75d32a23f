import { join } from "node:path";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import { never, unlessAborted } from "../../src/time.ts";
import { installationId } from "../common/installation.ts";
import { createSweeper, type Sweeper } from "./clean-up/sweep.ts";
import { connectEngine, type Engine } from "./engine/engine.ts";
import type { Owner } from "./engine/labels.ts";
import { createHelperImages, type HelperImages } from "./image/helper-image.ts";
import { createNetworkPool, type NetworkPool } from "./job/network/network-pool.ts";
import { createSlots } from "./job/slots.ts";
import { openRecord } from "./kept/record.ts";
import { createUses, type Uses } from "./kept/uses.ts";
import type { ConnectionSettings, DockerSettings } from "./settings/settings.ts";

/** One engine, and what its jobs share there. */
export interface Means {
  readonly engine: Engine;
  readonly owner: Owner;
  readonly slots: ReturnType<typeof createSlots>;
  readonly sweeper: Sweeper;
  readonly networks: NetworkPool;
  readonly helperImages: HelperImages;
  /** Shared by all entries of this process that are at the engine. */
  readonly uses: Uses;
}

/** Means that somebody works with until they are let go of. */
export interface HeldMeans extends Means {
  /** To be called once. The last one who lets go of an engine that is not the entry's own ends its connections. */
  free(): Promise<void>;
}

/** The engines that an entry's jobs are at: its own, which is kept, and others as long as they have jobs. */
export interface Engines {
  /** @throws {SystemFailure} the engine does not answer */
  hold(connection: ConnectionSettings, signal: AbortSignal): Promise<HeldMeans>;
  /** Lets go of all. */
  close(): Promise<void>;
}

interface Known {
  readonly finding: Promise<Means>;
  users: number;
}

export function createEngines(settings: DockerSettings, { log, host }: Pick<ExecutorDeps, "log" | "host">): Engines {
  const known = new Map<string, Known>();
  const own = keyOf(settings.connection);

  const find = async (connection: ConnectionSettings): Promise<Means> => {
    const installation = await installationId(join(host.keepDir, "docker-installation"));
    const owner: Owner = { installation, process: `${process.pid}-${Math.round(performance.timeOrigin)}` };
    // All jobs that wait for the engine share this call, so that the signal of none of them ends it; it has time limits of
    // its own.
    const engine = await connectEngine({ settings: connection, env: host.env, scratchDir: host.scratch }, never);
    log.debug("connected to a container engine", { engine: engine.product, api: engine.apiVersion });
    return {
      engine,
      owner,
      slots: createSlots(owner),
      sweeper: createSweeper(owner, log, host.isKept),
      networks: createNetworkPool({ engine, owner, settings, log }),
      helperImages: createHelperImages(),
      uses: await usesAt(host.keepDir, engine.address),
    };
  };

  const enter = (connection: ConnectionSettings): Known => {
    const key = keyOf(connection);
    const there = known.get(key);
    if (there !== undefined) return there;
    const fresh: Known = { finding: find(connection), users: 0 };
    known.set(key, fresh);
    // Asked for anew after a failure: an engine may be started while the runner runs.
    fresh.finding.catch(() => {
      if (known.get(key) === fresh) known.delete(key);
    });
    return fresh;
  };

  const leave = async (key: string, one: Known): Promise<void> => {
    if (--one.users > 0 || key === own || known.get(key) !== one) return;
    known.delete(key);
    await one.finding.then(end, () => {});
  };

  return {
    async hold(connection, signal) {
      const key = keyOf(connection);
      const one = enter(connection);
      one.users++;
      let held = true;
      const free = async (): Promise<void> => {
        if (!held) return;
        held = false;
        await leave(key, one);
      };
      try {
        return { ...(await unlessAborted(one.finding, signal)), free };
      } catch (error) {
        void free();
        throw error;
      }
    },
    async close() {
      const all = [...known.values()];
      known.clear();
      await Promise.all(all.map(({ finding }) => finding.then(end, () => {})));
    },
  };
}

const usesByEngine = new Map<string, Promise<Uses>>();

/** Several entries may be at one engine, and what one's job uses another one's must not remove. */
async function usesAt(keepDir: string, address: string): Promise<Uses> {
  const key = JSON.stringify([keepDir, address]);
  const there = usesByEngine.get(key);
  if (there !== undefined) return await there;
  const fresh = openRecord(keepDir, address).then(createUses);
  usesByEngine.set(key, fresh);
  return await fresh;
}

function keyOf({ host, tlsCertPath, tlsVerify }: ConnectionSettings): string {
  return JSON.stringify([host, tlsCertPath, tlsVerify]);
}

async function end({ engine, sweeper, networks, uses }: Means): Promise<void> {
  await uses.record.save().catch(() => {});
  await sweeper.close();
  await networks.close();
  await engine.close();
}
