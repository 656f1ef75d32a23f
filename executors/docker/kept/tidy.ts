import { z } from "zod";
import { describeError } from "../../../src/errors.ts";
import type { KeepBudgets, Tidied } from "../../../src/executor/keeping.ts";
import { missingRoom } from "../../common/kept/missing-room.ts";
import { type Candidate, chooseOldest } from "../../common/kept/oldest.ts";
import { type Engine, EngineFailure, isGone } from "../engine/engine.ts";
import { LABELS, labelFilter, type Owner } from "../engine/labels.ts";
import type { KeptImage } from "./record.ts";
import type { Uses } from "./uses.ts";

export interface TidyOptions {
  readonly engine: Engine;
  readonly owner: Owner;
  readonly uses: Uses;
  readonly budgets: KeepBudgets;
  /** Only say what would go. */
  readonly dry: boolean;
}

type Found = Candidate & ({ readonly image: string; readonly names: readonly string[] } | { readonly volume: string });

/** Sizes of volumes are found by walking through them. */
const SIZES_LIMIT_MS = 600_000;

/**
 * Images that this runner pulled and volumes that it keeps between jobs, those that were not used for longest first, until all is
 * within the budgets. Nothing that a job works with, that a container is made of, or that has a name of others', is touched.
 */
export async function tidyEngine(
  { engine, owner, uses, budgets, dry }: TidyOptions,
  signal: AbortSignal,
): Promise<Tidied[]> {
  const missing = await missingRoom(engine.rootDir, budgets);
  const things = [
    ...(budgets.images !== null || missing !== null ? await findImages(engine, uses, signal) : []),
    ...(budgets.volumes !== null || missing !== null ? await findVolumes(engine, owner, uses, signal) : []),
  ];
  const gone: Tidied[] = [];
  for (const { thing, why } of chooseOldest(things, budgets, missing)) {
    signal.throwIfAborted();
    const { kind, name, bytes, usedAt } = thing;
    const said: Tidied = { kind, name, bytes, usedAt, why, where: `${engine.product} at ${engine.address}` };
    if (dry) {
      gone.push(said);
      continue;
    }
    const problem = await uses.removing(async () => await remove(engine, thing, uses, signal));
    if (problem !== "held") gone.push(problem === null ? said : { ...said, problem });
  }
  return gone;
}

/** @returns `null`: it has gone; `held`: it is needed after all; else why it is still there */
async function remove(engine: Engine, thing: Found, uses: Uses, signal: AbortSignal): Promise<string | null> {
  try {
    if ("volume" in thing) {
      if (uses.isVolumeHeld(thing.volume)) return "held";
      await engine.call(
        `remove the volume ${thing.volume}`,
        (docker) => docker.getVolume(thing.volume).remove(),
        signal,
      );
      await uses.record.forget(thing);
      return null;
    }
    if (uses.isImageHeld(thing.image)) return "held";
    // An image with several names goes with the last of them; by its id, without force, it would not.
    for (const name of thing.names.length === 0 ? [thing.image] : thing.names) {
      await engine.call(`remove the image ${name}`, (docker) => docker.getImage(name).remove(), signal);
    }
    await uses.record.forget(thing);
    return null;
  } catch (error) {
    signal.throwIfAborted();
    if (isGone(error)) {
      await uses.record.forget(thing);
      return null;
    }
    // Somebody's container is made of it, or has it.
    if (error instanceof EngineFailure && error.status === 409) return "held";
    return describeError(error);
  }
}

const imagesSchema = z.array(
  z.object({
    Id: z.string(),
    RepoTags: z.array(z.string()).nullish(),
    Size: z.number().default(0),
  }),
);
const containersSchema = z.array(z.object({ ImageID: z.string().default("") }));

async function findImages(engine: Engine, uses: Uses, signal: AbortSignal): Promise<Found[]> {
  const ours = uses.record.images;
  if (ours.size === 0) return [];
  const [images, containers] = await Promise.all([
    engine.call("list its images", (docker) => docker.listImages(), signal),
    engine.call("list its containers", (docker) => docker.listContainers({ all: true }), signal),
  ]);
  const used = new Set(containersSchema.parse(containers).map(({ ImageID }) => idOf(ImageID)));
  const there = new Set<string>();
  const found = imagesSchema.parse(images).flatMap(({ Id, RepoTags, Size }): Found[] => {
    const id = idOf(Id);
    const known = ours.get(id);
    if (known === undefined) return [];
    there.add(id);
    const names = (RepoTags ?? []).filter((name) => name !== "<none>:<none>");
    return [
      {
        kind: "image",
        image: id,
        names,
        name: names[0] ?? id.slice(0, 19),
        bytes: Size,
        usedAt: known.usedAt,
        held: used.has(id) || uses.isImageHeld(id) || isNamedByOthers(names, known),
      },
    ];
  });
  for (const id of ours.keys()) if (!there.has(id) && !uses.isImageHeld(id)) await uses.record.forget({ image: id });
  return found;
}

/** Somebody gave it another name: it is theirs, too. */
function isNamedByOthers(names: readonly string[], { names: known }: KeptImage): boolean {
  return names.some((name) => !known.includes(name));
}

function idOf(id: string): string {
  return id.includes(":") ? id : `sha256:${id}`;
}

const sizesSchema = z.object({
  Volumes: z
    .array(
      z.object({
        Name: z.string(),
        CreatedAt: z.string().nullish(),
        Labels: z.record(z.string(), z.string()).nullish(),
        UsageData: z.object({ Size: z.number().default(0), RefCount: z.number().default(0) }).nullish(),
      }),
    )
    .nullish(),
});
const volumesSchema = z.object({
  Volumes: z
    .array(
      z.object({
        Name: z.string(),
        CreatedAt: z.string().nullish(),
        Labels: z.record(z.string(), z.string()).nullish(),
      }),
    )
    .nullish(),
});

async function findVolumes(engine: Engine, owner: Owner, uses: Uses, signal: AbortSignal): Promise<Found[]> {
  const labels = { [LABELS.installation]: owner.installation, [LABELS.role]: "cache" };
  const filters = JSON.stringify(labelFilter(labels));
  const listed = await engine.call("list its volumes", (docker) => docker.listVolumes({ filters }), signal);
  const ours = volumesSchema.parse(listed).Volumes ?? [];
  if (ours.length === 0) return [];
  const answer = await engine.call("measure its volumes", (docker) => docker.df(), signal, SIZES_LIMIT_MS);
  const sizes = new Map((sizesSchema.parse(answer).Volumes ?? []).map((volume) => [volume.Name, volume.UsageData]));
  return ours.flatMap(({ Name, CreatedAt, Labels }): Found[] => {
    // Whatever a filter means to an engine, only these are ours.
    if (Object.entries(labels).some(([name, value]) => Labels?.[name] !== value)) return [];
    const usage = sizes.get(Name);
    const created = Date.parse(CreatedAt ?? "");
    return [
      {
        kind: "volume",
        volume: Name,
        name: Name,
        bytes: Math.max(0, usage?.Size ?? 0),
        usedAt: uses.record.volumes.get(Name) ?? (Number.isNaN(created) ? 0 : created),
        held: (usage?.RefCount ?? 0) > 0 || uses.isVolumeHeld(Name),
      },
    ];
  });
}
