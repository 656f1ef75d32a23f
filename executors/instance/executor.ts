import { z } from "zod";
import { describeError, Stop, SystemFailure } from "../../src/errors.ts";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor, Recovered } from "../../src/executor/executor.ts";
import type { Notes, PrepareRequest } from "../../src/executor/prepare.ts";
import { deadline } from "../../src/time.ts";
import { instancesOf, type Reached } from "../autoscaler/index.ts";
import { handingOver } from "../common/hand-over.ts";
import type { RemoteCommands } from "../remote/index.ts";
import { type Lease, onLease, onPlace, type Place } from "../scaler/index.ts";
import {
  type Claim,
  cleanUpAfter,
  DEFAULT_BUILDS_DIR,
  jobOverSsh,
  type OverSshOptions,
  type SshConnection,
  sshCommands,
} from "../ssh/over-ssh.ts";
import { createKeptOnInstances } from "./kept.ts";
import { words } from "./words.ts";

/** What a dead runner's job has left behind, and where. */
const noteSchema = z.object({
  kind: z.literal("instance-job"),
  instance: z.string(),
  buildsDir: z.string(),
  runnerId: z.string(),
});
type Left = Omit<z.output<typeof noteSchema>, "kind">;

/** How long an instance that was ready may be away before its job looks for another one. */
const PATIENCE_MS = 10_000;
const CLEAN_UP_MS = 60_000;
const SOMEWHERE = { at: "host", host: "an instance" } as const;

type Tables = Readonly<Record<string, unknown>>;

/** Jobs over SSH on instances that come and go. */
export function createInstanceExecutor(tables: Tables, given: ExecutorDeps): Executor {
  const { log } = given;
  let deps = given;
  const { get: instances, ...lifecycle } = instancesOf(tables, given, words.name);
  const kept = createKeptOnInstances(given.host.keepDir, given.entry.machines?.runnerId ?? "");

  /** Cleans up over a connection of its own, or by `commands`. */
  const cleanUp = async (
    reached: Reached,
    { jobKey, ...left }: Left & { readonly jobKey: string },
    commands: RemoteCommands | null,
    signal: AbortSignal,
  ): Promise<Recovered> => {
    const { killGraceMs, ephemeral = false } = deps.entry;
    const dead = { ...left, jobKey, killGraceMs, ephemeral, host: `the instance ${reached.id}` };
    if (commands !== null) return await cleanUpAfter(commands, dead, signal);
    const connection = await reached.logIn(PATIENCE_MS, signal);
    try {
      return await cleanUpAfter(sshCommands(connection), dead, signal);
    } finally {
      connection.close();
    }
  };

  const logIn = async ({ connection, lost, isThere }: Place<Reached>, signal: AbortSignal): Promise<SshConnection> => {
    try {
      return await connection.logIn(PATIENCE_MS, AbortSignal.any([signal, lost]));
    } catch (error) {
      signal.throwIfAborted();
      // The next try gets another one then.
      if (error instanceof SystemFailure && !(await isThere(signal))) lost.throwIfAborted();
      throw error;
    }
  };

  const prepareOn = async (
    lease: Lease<Reached>,
    request: PrepareRequest,
    notes: Notes,
    signal: AbortSignal,
  ): Promise<Environment> => {
    const { buildsDir = DEFAULT_BUILDS_DIR, ephemeral = false } = deps.entry;
    notes.print(`Waiting for ${lease.name}`);
    const place = await lease.take(signal);
    const { id, connection: reached } = place;
    notes.print(`Using instance ${reached.describe()}`);
    const { jobKey, runnerId } = request;
    const left: Left = { instance: id, buildsDir, runnerId };
    const connection = await logIn(place, signal);
    let claimed: Claim | null = null;
    const options: OverSshOptions = {
      notes,
      deps,
      request,
      ephemeral,
      host: `instance ${id}`,
      location: { at: "host", host: id },
      without: (shell) => `The instance ${id} has no ${shell}. Have it in the image that instances are made of`,
      onClaimed: (claim) => {
        claimed = claim;
        if (!ephemeral) kept.used(id, runnerId, claim);
      },
      connection,
      connect: async (until) =>
        await logIn(place, until).catch((error: unknown) => {
          until.throwIfAborted();
          if (!place.lost.aborted) throw error;
          // What is gone is not tried again.
          throw new SystemFailure(describeError(place.lost.reason), { cause: error });
        }),
      begin: () => request.remember({ kind: "instance-job", ...left }),
      ready: async ({ tools }) => {
        if (tools.programs.has("git")) return;
        notes.print(
          `The instance ${id} has no git, or its profiles do not name where: without it there are no sources`,
          "warning",
        );
      },
      cleanUp: async (by, until) => {
        const cleaned = await cleanUp(reached, { ...left, jobKey }, by, until);
        const said = [...cleaned.done, ...cleaned.left].join(", ");
        if (said !== "") log.info("cleaned up what a job had left", { instance: id, result: said });
      },
    };
    const { environment } = await jobOverSsh(options, AbortSignal.any([signal, place.lost]));
    const placed = onPlace(environment, place, log);
    return {
      ...placed,
      destroy: async (until) => {
        if (claimed !== null && !ephemeral) kept.used(id, runnerId, claimed);
        await placed.destroy(until);
      },
    };
  };

  const recoverOn = async (jobKey: string, left: Left, signal: AbortSignal): Promise<Recovered> => {
    const tooLong = new Stop("timed_out", `no answer within ${CLEAN_UP_MS / 1000} s`);
    using limit = deadline(signal, CLEAN_UP_MS, tooLong);
    try {
      const reached = await instances().find(left.instance, limit.signal);
      // What was on an instance that is gone went with it.
      if (reached === null) return { done: [], left: [] };
      return await cleanUp(reached, { ...left, jobKey }, null, limit.signal);
    } catch (error) {
      signal.throwIfAborted();
      const why = describeError(error);
      return { done: [], left: [`could not look after what it left on the instance ${left.instance}: ${why}`] };
    }
  };

  const executor = handingOver({
    name: words.name,
    title: words.title,
    features: { variables: true, image: false, services: false, shared: true, terminal: true },
    shell: "bash",
    location: SOMEWHERE,
    ...lifecycle,
    prepare: (request, notes, signal) =>
      onLease(instances().pool, request, (lease) => prepareOn(lease, request, notes, signal), signal),
    tidy: async (budgets, { dry }, signal) =>
      await kept.tidy({ budgets, dry, find: (id, until) => instances().find(id, until) }, signal),
    close: async (signal) => {
      await lifecycle.close(signal);
      await kept.close().catch(() => {});
    },
    async recover(jobKey, notes, signal) {
      // A job that was prepared twice on one instance has two notes of it.
      const places = new Map<string, Left>();
      for (const note of notes) {
        const known = noteSchema.safeParse(note);
        if (!known.success) continue;
        const { kind: _, ...left } = known.data;
        places.set(JSON.stringify(left), left);
      }
      const all = await Promise.all([...places.values()].map((left) => recoverOn(jobKey, left, signal)));
      return { done: all.flatMap(({ done }) => done), left: all.flatMap(({ left }) => left) };
    },
    reconfigure(next, entry) {
      if (!lifecycle.reconfigure(next, entry)) return false;
      deps = { ...deps, entry };
      return true;
    },
  });
  return {
    ...executor,
    get shell() {
      return deps.entry.shell ?? "bash";
    },
  };
}
