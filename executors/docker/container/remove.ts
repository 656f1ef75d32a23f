import { z } from "zod";
import { pause } from "../../../src/time.ts";
import { type Engine, EngineFailure, isGone } from "../engine/engine.ts";
import { isNamedByUs, LABELS, labelFilter } from "../engine/labels.ts";

const labels = z
  .record(z.string(), z.string())
  .nullish()
  .transform((value) => value ?? {});
const containersSchema = z.array(
  z.object({ Id: z.string(), State: z.string().default(""), Labels: labels, Names: z.array(z.string()).nullish() }),
);
const networksSchema = z.array(z.object({ Id: z.string(), Labels: labels }));
const volumesSchema = z.object({ Volumes: z.array(z.object({ Name: z.string(), Labels: labels })).nullish() });

export interface FoundContainer {
  readonly id: string;
  readonly running: boolean;
  readonly labels: Readonly<Record<string, string>>;
}

export interface FoundThings {
  readonly containers: readonly FoundContainer[];
  readonly networks: readonly { readonly id: string; readonly labels: Readonly<Record<string, string>> }[];
  readonly volumes: readonly { readonly name: string; readonly labels: Readonly<Record<string, string>> }[];
}

/** How many things of each kind are gone. */
export interface Removed {
  readonly containers: number;
  readonly networks: number;
  readonly volumes: number;
}

/** What at this daemon carries all these labels. The daemon's word for that is checked: nothing else is ever removed. */
export async function findThings(
  engine: Engine,
  wanted: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<FoundThings> {
  const filters = labelFilter(wanted);
  const [containers, networks, volumes] = await Promise.all([
    engine.call(
      "list containers",
      (docker, abortSignal) => docker.listContainers({ all: true, filters, abortSignal }),
      signal,
    ),
    engine.call("list networks", (docker, abortSignal) => docker.listNetworks({ filters, abortSignal }), signal),
    engine.call("list volumes", (docker, abortSignal) => docker.listVolumes({ filters, abortSignal }), signal),
  ]);
  const carries = (found: Readonly<Record<string, string>>): boolean =>
    Object.entries(wanted).every(([name, value]) => found[name] === value) && (found[LABELS.jobKey] ?? "") !== "";
  return {
    containers: containersSchema
      .parse(containers)
      .filter((one) => carries(one.Labels) && isNamedByUs(one.Names ?? [], one.Labels))
      .map(({ Id, State, Labels }) => ({
        id: Id,
        running: State === "running" || State === "paused",
        labels: Labels,
      })),
    networks: networksSchema
      .parse(networks)
      .filter((one) => carries(one.Labels))
      .map(({ Id, Labels }) => ({ id: Id, labels: Labels })),
    volumes: (volumesSchema.parse(volumes).Volumes ?? [])
      .filter((one) => carries(one.Labels))
      .map(({ Name, Labels }) => ({ name: Name, labels: Labels })),
  };
}

/** Networks that carry these labels and belong to no one job. */
export async function findNetworks(
  engine: Engine,
  wanted: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<FoundThings["networks"]> {
  const filters = labelFilter(wanted);
  const answer = await engine.call(
    "list networks",
    (docker, abortSignal) => docker.listNetworks({ filters, abortSignal }),
    signal,
  );
  return networksSchema
    .parse(answer)
    .filter(({ Labels }) => Object.entries(wanted).every(([name, value]) => Labels[name] === value))
    .filter(({ Labels }) => Labels[LABELS.jobKey] === undefined)
    .map(({ Id, Labels }) => ({ id: Id, labels: Labels }));
}

/** Ends what runs in it and removes it with its anonymous volumes. One that is gone, or going, is fine. */
export async function removeContainer(engine: Engine, id: string, signal: AbortSignal): Promise<void> {
  await insist(
    async () => {
      await engine.call(
        `remove the container ${id.slice(0, 12)}`,
        (docker) => docker.getContainer(id).remove({ force: true, v: true }),
        signal,
      );
    },
    // 409: another removal is in progress.
    ({ status, complaint }) => status === 409 || complaint === "has_dependents",
    signal,
  );
}

const TRIES = 5;
const PAUSE_MS = 200;

/** Try again where the daemon is still busy with it. */
async function insist(
  body: () => Promise<void>,
  busy: (error: EngineFailure) => boolean,
  signal: AbortSignal,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await body();
      return;
    } catch (error) {
      if (isGone(error)) return;
      if (!(error instanceof EngineFailure) || !busy(error) || attempt === TRIES) throw error;
      await pause(PAUSE_MS * attempt, signal);
    }
  }
}

/**
 * @returns whether it was there
 * @throws {SystemFailure} it is still used
 */
export async function removeNetwork(
  engine: Engine,
  id: string,
  signal: AbortSignal,
  { patient = true }: { patient?: boolean } = {},
): Promise<boolean> {
  let found = false;
  await insist(
    async () => {
      await engine.call("remove the network of a job", (docker) => docker.getNetwork(id).remove(), signal);
      found = true;
    },
    ({ status, complaint }) => patient && (status === 403 || status === 409 || complaint === "has_endpoints"),
    signal,
  );
  return found;
}

/**
 * Remove these, in the order that the daemon needs. Everything is tried; the first failure is thrown then.
 * @param onQuiet told once all containers are gone
 * @throws {SystemFailure} something could not be removed
 */
export async function removeThings(
  engine: Engine,
  things: FoundThings,
  onQuiet: () => void,
  signal: AbortSignal,
): Promise<Removed> {
  const failures: unknown[] = [];
  const count = async <T>(list: readonly T[], remove: (one: T) => Promise<void>): Promise<number> => {
    const results = await Promise.allSettled(list.map(remove));
    for (const result of results) if (result.status === "rejected") failures.push(result.reason);
    return results.filter((result) => result.status === "fulfilled").length;
  };
  const containers = await count(things.containers, ({ id }) => removeContainer(engine, id, signal));
  if (failures.length === 0) onQuiet();
  const networks = await count(things.networks, async ({ id }) => {
    await removeNetwork(engine, id, signal);
  });
  const volumes = await count(things.volumes, ({ name }) =>
    insist(
      async () => {
        await engine.call(
          "remove a volume of a job",
          (docker) => docker.getVolume(name).remove({ force: true }),
          signal,
        );
      },
      (error) => error.status === 409,
      signal,
    ),
  );
  if (failures.length > 0) throw failures[0];
  return { containers, networks, volumes };
}
