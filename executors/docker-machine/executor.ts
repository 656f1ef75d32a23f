import { join } from "node:path";
import { z } from "zod";
import { SystemFailure } from "../../src/errors.ts";
import type { EntrySettings, ExecutorDeps, MachineOwner } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Note, Notes, PrepareRequest, Reservation } from "../../src/executor/prepare.ts";
import type { ExecutorWords } from "../../src/executor/words.ts";
import { afterDestroy } from "../common/after-destroy.ts";
import { createDockerExecutor, createSuccessive, settingsOf } from "../docker/index.ts";
import type { PrepareJobOptions } from "../docker/own-command.ts";
import { createPool, type Lease, onLease, onPlace, type Pool } from "../scaler/index.ts";
import { machineMeters } from "./metrics.ts";
import { machineProgram } from "./provider/call.ts";
import { machineNames } from "./provider/names.ts";
import type { MachineConnection } from "./provider/ping.ts";
import { createMachineProvider } from "./provider/provider.ts";
import { machineRecords } from "./provider/records.ts";
import { findStore } from "./provider/store.ts";
import { createFlags, poolSettings, removalAttempts } from "./settings/pool-settings.ts";
import { type MachineTable, machineTable } from "./settings/settings.ts";

/** What a docker job on a machine is, in the words of its executor. */
export interface MachineFlavor extends Pick<ExecutorWords, "name" | "title"> {
  /** Of the Go runner's metrics: `ci_docker_machines`. */
  readonly metrics: string;
  /** How a job's surroundings are made, where that is not as for `docker`. Given the tables as they are now. */
  readonly preparing?: (given: Tables, deps: ExecutorDeps) => PrepareOnMachine;
}

export type PrepareOnMachine = (
  machine: MachineConnection,
  options: PrepareJobOptions,
  notes: Notes,
  signal: AbortSignal,
) => Promise<Environment>;

export type Tables = Readonly<Record<string, unknown>>;

/** Creations that are under way may end before the runner does. */
const CLOSE_MS = 600_000;

const noteSchema = z.object({ kind: z.literal("machine"), name: z.string() });
const checkedTable = z.custom<MachineTable>(
  (value) => typeof value === "object" && value !== null && "offPeak" in value,
);

function tableOf(value: unknown): MachineTable {
  const checked = checkedTable.safeParse(value);
  return checked.success ? checked.data : machineTable.parse(value);
}

/** Docker jobs, each on a machine of its own that docker-machine has made. */
export function createMachineExecutor(tables: Tables, deps: ExecutorDeps, flavor: MachineFlavor): Executor {
  const connections = new WeakMap<Reservation, MachineConnection>();
  const { preparing, name, title } = flavor;

  const machineFor = ({ reservation }: PrepareRequest): MachineConnection => {
    const connection = reservation === undefined ? undefined : connections.get(reservation);
    if (connection === undefined) throw new SystemFailure("A job on a machine has no machine");
    return connection;
  };
  const openDocker = (given: Tables, entry: EntrySettings): Executor => {
    const prepare = preparing?.(given, { ...deps, entry });
    return createDockerExecutor(
      settingsOf(given.docker),
      { ...deps, entry },
      {
        name,
        title,
        ...(prepare === undefined
          ? {}
          : { prepare: (options, ...rest) => prepare(machineFor(options.request), options, ...rest) }),
        connectionOf: (request) => {
          const { host, tlsCertPath } = machineFor(request);
          return { host, tlsCertPath, tlsVerify: true };
        },
      },
    );
  };
  const docker = createSuccessive(openDocker(tables, deps.entry), CLOSE_MS);
  const { serviceImage } = docker.current;

  let wake = (): void => {};
  let machines: Machines | null = null;
  let table = tables.machine;
  let entry = deps.entry;
  const pool = (): Pool<MachineConnection> => {
    machines ??= openMachines({ table, entry, deps, metrics: flavor.metrics });
    machines.pool.onRoom(() => wake());
    return machines.pool;
  };

  const prepareOn = async (lease: Lease<MachineConnection>, request: PrepareRequest, ...[notes, signal]: Rest) => {
    notes.print(`Waiting for ${lease.name}`);
    const place = await lease.take(signal);
    notes.print(`Using machine ${place.id}`);
    await request.remember({ kind: "machine", name: place.id });
    const reservation: Reservation = { name: place.id, [Symbol.asyncDispose]: async () => {} };
    connections.set(reservation, place.connection);
    const held = docker.hold();
    try {
      const either = AbortSignal.any([signal, place.lost]);
      const environment = await held.executor.prepare({ ...request, reservation }, notes, either);
      return afterDestroy(onPlace(environment, place, deps.log), () => held.leave());
    } catch (error) {
      await held.leave();
      throw error;
    }
  };

  return {
    name,
    title,
    features: docker.current.features,
    ...(serviceImage === undefined ? {} : { serviceImage }),
    get shell() {
      return docker.current.shell;
    },
    location: { at: "host", host: "a machine of docker-machine" },
    closeMs: CLOSE_MS,
    reserve: (signal) => pool().reserve(signal),
    diagnose: async (_, signal) => {
      const { diagnoseProgram } = await import("./provider/diagnose.ts");
      return { state: await diagnoseProgram(deps.host.env, signal) };
    },
    onRoom: (given) => {
      wake = given;
    },
    prepare: (request, notes, signal) =>
      onLease(pool(), request, (lease) => prepareOn(lease, request, notes, signal), signal),
    reconfigure(next, nextEntry) {
      docker.replace(openDocker(next, nextEntry));
      table = next.machine;
      entry = nextEntry;
      machines?.configure(table, entry);
      return true;
    },
    async recover(jobKey, notes, signal) {
      const on = machineOf(notes);
      // What was on a machine that is gone went with it.
      if (on !== undefined && !(await findStore(deps.host.env).names()).includes(on)) return { done: [], left: [] };
      return await docker.current.recover(jobKey, notes, signal);
    },
    async close(signal) {
      await machines?.pool.close(signal);
      await docker.close(signal);
    },
  };
}

type Rest = readonly [notes: Parameters<Executor["prepare"]>[1], signal: AbortSignal];

interface Machines {
  readonly pool: Pool<MachineConnection>;
  configure(table: unknown, entry: EntrySettings): void;
}

interface OpenOptions {
  readonly table: unknown;
  readonly entry: EntrySettings;
  readonly deps: ExecutorDeps;
  readonly metrics: string;
}

/** @throws {SystemFailure} there is no place for machines */
function openMachines({ table: given, entry, deps, metrics }: OpenOptions): Machines {
  const { log, host, meter } = deps;
  const settings = (value: unknown, from: EntrySettings) => {
    const table = tableOf(value);
    const { limit, shortTokens } = ownerOf(from);
    return {
      make: {
        names: machineNames(shortTokens, table.MachineName),
        driver: table.MachineDriver,
        flagsFor: (name: string) => createFlags(table, name),
        maxRemovalAttempts: removalAttempts(table),
      },
      pool: poolSettings(table, limit, from.ephemeral === true),
    };
  };
  let current = settings(given, entry);
  const store = findStore(host.env);
  const dir = join(host.keepDir, `docker-machine-${ownerOf(entry).runnerId}`);
  const meters = machineMeters(meter, metrics, () => pool.instances());
  const pool: Pool<MachineConnection> = createPool({
    provider: createMachineProvider({
      settings: () => current.make,
      store,
      program: machineProgram(store, host.env),
      records: machineRecords(dir),
      log,
      onMade: meters.made,
    }),
    settings: current.pool,
    log,
    dir,
    word: "machine",
    events: meters.events,
  });
  return {
    pool,
    configure(next, nextEntry) {
      current = settings(next, nextEntry);
      pool.configure(current.pool);
    },
  };
}

function ownerOf({ machines }: EntrySettings): MachineOwner {
  if (machines === undefined) throw new SystemFailure("Machines belong to an entry, and there is none");
  return machines;
}

function machineOf(notes: readonly Note[]): string | undefined {
  return notes.map((note) => noteSchema.safeParse(note)).findLast(({ success }) => success)?.data?.name;
}
