import { z } from "zod";
import { describeError, SystemFailure } from "../../src/errors.ts";
import type { EntrySettings, ExecutorDeps } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Note, Notes, PrepareRequest, Reservation } from "../../src/executor/prepare.ts";
import { instancesOf, type Reached } from "../autoscaler/index.ts";
import { afterDestroy } from "../common/after-destroy.ts";
import { handingOver } from "../common/hand-over.ts";
import type { ConnectionSettings } from "../docker/index.ts";
import { createDockerExecutor, createSuccessive, settingsOf } from "../docker/index.ts";
import { type Lease, onLease, onPlace } from "../scaler/index.ts";
import { createTunnels } from "./tunnels.ts";
import { words } from "./words.ts";

const noteSchema = z.object({ kind: z.literal("instance"), id: z.string() });
/** Docker's own note of where its containers are. */
const engineSchema = z.looseObject({ kind: z.literal("docker-job"), engine: z.string() });

type Tables = Readonly<Record<string, unknown>>;

/** Docker jobs on instances that come and go: their engines are reached over SSH. */
export function createDockerAutoscaler(tables: Tables, deps: ExecutorDeps): Executor {
  const { log, host } = deps;
  const { get: instances, ...lifecycle } = instancesOf(tables, deps, words.name);
  const tunnels = createTunnels(host.scratch, log);
  const connections = new WeakMap<Reservation, ConnectionSettings>();

  const openDocker = (given: Tables, entry: EntrySettings): Executor =>
    createDockerExecutor(
      settingsOf(given.docker),
      { ...deps, entry },
      {
        ...words,
        connectionOf: ({ reservation }) => {
          const connection = reservation === undefined ? undefined : connections.get(reservation);
          if (connection === undefined) throw new SystemFailure("A job on an instance has no instance");
          return connection;
        },
      },
    );
  const docker = createSuccessive(openDocker(tables, deps.entry), lifecycle.closeMs);
  const { serviceImage } = docker.current;
  /** Where the engine is on an instance. */
  let dockerHost = settingsOf(tables.docker).connection.host;

  const prepareOn = async (
    lease: Lease<Reached>,
    request: PrepareRequest,
    notes: Notes,
    signal: AbortSignal,
  ): Promise<Environment> => {
    notes.print(`Waiting for ${lease.name}`);
    const place = await lease.take(signal);
    const { id, connection: reached, lost } = place;
    notes.print(`Using instance ${reached.describe()}`);
    await request.remember({ kind: "instance", id });
    const tunnel = await tunnels.to(reached, dockerHost);
    const held = docker.hold();
    const free = async (): Promise<void> => {
      await held.leave();
      await tunnel.free();
    };
    try {
      const reservation: Reservation = { name: id, [Symbol.asyncDispose]: async () => {} };
      connections.set(reservation, { host: tunnel.host, tlsCertPath: "", tlsVerify: false, via: `instance ${id}` });
      const either = AbortSignal.any([signal, lost]);
      const environment = await held.executor.prepare({ ...request, reservation }, notes, either);
      return afterDestroy(onPlace(environment, place, log), free);
    } catch (error) {
      const complaint = tunnel.complaint();
      await free();
      signal.throwIfAborted();
      if (!(error instanceof SystemFailure) || !error.retry) throw error;
      // The next try gets another one then.
      if (!(await place.isThere(signal))) lost.throwIfAborted();
      throw complaint === "" ? error : withReason(error, complaint);
    }
  };

  const executor = handingOver({
    ...lifecycle,
    name: words.name,
    title: words.title,
    features: docker.current.features,
    ...(serviceImage === undefined ? {} : { serviceImage }),
    shell: docker.current.shell,
    location: { at: "host", host: "an instance" },
    prepare: (request, notes, signal) =>
      onLease(instances().pool, request, (lease) => prepareOn(lease, request, notes, signal), signal),
    reconfigure(next, entry) {
      if (!lifecycle.reconfigure(next, entry)) return false;
      docker.replace(openDocker(next, entry));
      dockerHost = settingsOf(next.docker).connection.host;
      return true;
    },
    async recover(jobKey, notes, signal) {
      const id = instanceOf(notes);
      if (id === undefined) return { done: [], left: [] };
      try {
        const reached = await instances().find(id, signal);
        // What was on an instance that is gone went with it.
        if (reached === null) return { done: [], left: [] };
        const tunnel = await tunnels.to(reached, dockerHost);
        try {
          return await docker.current.recover(jobKey, notes.map(leadingTo(tunnel.host)), signal);
        } finally {
          await tunnel.free();
        }
      } catch (error) {
        signal.throwIfAborted();
        const why = describeError(error);
        return { done: [], left: [`could not look after what it left on the instance ${id}: ${why}`] };
      }
    },
    async close(signal) {
      await lifecycle.close(signal);
      await docker.close(signal);
    },
  });
  return {
    ...executor,
    get shell() {
      return docker.current.shell;
    },
  };
}

function instanceOf(notes: readonly Note[]): string | undefined {
  return notes.map((note) => noteSchema.safeParse(note)).findLast(({ success }) => success)?.data?.id;
}

/** The way to the engine that a dead job had is gone; this one leads there. */
function leadingTo(host: string): (note: Note) => Note {
  return (note) => {
    const known = engineSchema.safeParse(note);
    return known.success ? { ...note, engine: host } : note;
  };
}

/** A connection that ended says nothing of why. */
function withReason(failure: SystemFailure, why: string): SystemFailure {
  const { retry, reason } = failure;
  return new SystemFailure(`${failure.message}: ${why}`, { retry, reason, cause: failure });
}
