import { z } from "zod";
import type { FormerCache } from "../../../src/executor/environment.ts";
import { never, unlessAborted } from "../../../src/time.ts";
import { createContainer } from "../container/container.ts";
import { md5 } from "../container/places.ts";
import { removeContainer } from "../container/remove.ts";
import type { Engine } from "../engine/engine.ts";
import { openArchive } from "./former-archive.ts";

/** What other runners of the family have left at an engine: volumes of GitLab Runner, and containers with volumes of the Go runner's. */
export interface Former {
  readonly volumes: ReadonlySet<string>;
  readonly containers: ReadonlySet<string>;
}

/** All that is named as they name it, this runner's own among it. */
const KEPT = /^runner-[\w.-]+-cache-[0-9a-f]{32}(?:-protected)?$/;
/** Such things are not made while this runner is here instead, or seldom. */
const FRESH_MS = 60_000;

const seen = new WeakMap<Engine, { readonly at: number; readonly former: Promise<Former> }>();

const volumesSchema = z.object({ Volumes: z.array(z.object({ Name: z.string() })).nullish() });
const containersSchema = z.array(z.object({ Names: z.array(z.string()).nullish() }));

/** @throws {SystemFailure} the engine does not tell */
export async function findFormer(engine: Engine, signal: AbortSignal): Promise<Former> {
  const before = seen.get(engine);
  if (before !== undefined && performance.now() - before.at < FRESH_MS)
    return await unlessAborted(before.former, signal);
  // All jobs that want to know share it, so that the signal of none of them ends it; calls have time limits of their own.
  const fresh = { at: performance.now(), former: look(engine) };
  seen.set(engine, fresh);
  fresh.former.catch(() => {
    if (seen.get(engine) === fresh) seen.delete(engine);
  });
  return await unlessAborted(fresh.former, signal);
}

async function look(engine: Engine): Promise<Former> {
  const filters = { name: ["-cache-"] };
  const [volumes, containers] = await Promise.all([
    engine.call("list its volumes", (docker) => docker.listVolumes(), never),
    engine.call("list its containers", (docker) => docker.listContainers({ all: true, filters }), never),
  ]);
  const kept = (names: readonly string[]): ReadonlySet<string> => new Set(names.filter((name) => KEPT.test(name)));
  const named = containersSchema.parse(containers).flatMap(({ Names }) => Names ?? []);
  return {
    volumes: kept((volumesSchema.parse(volumes).Volumes ?? []).map(({ Name }) => Name)),
    containers: kept(named.map((name) => name.replace(/^\//, ""))),
  };
}

export interface FormerCacheRequest {
  /** Names of what was kept for a slot, without what follows: `runner-…`. */
  names(slot: number): readonly string[];
  /** Of protected refs only, or of others only: neither could have prepared what the other one reads. */
  readonly protectedOnly: boolean;
  /** Below the directory of caches: `group/project/key/cache.zip`. */
  readonly path: string;
  /** A container that is never started: what it is made of, and what finds it after a crash. */
  readonly scratch: {
    readonly image: string;
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
  };
}

/** Where those runners have caches in their containers, unless they are told otherwise. */
const CACHES = "/cache";
/** More jobs of one project at once than this hardly any machine has run. */
const MOST_SLOTS = 32;

/** Nobody fills them any more: what is not there now is not there with the project's next jobs either. */
const MISS_MS = 30 * 60_000;
const MOST_MISSES = 20_000;

/** Place and path → when it was seen that nothing is there; the oldest come first. */
const missed = new WeakMap<Engine, Map<string, number>>();

/**
 * An archive as they have left it, of the first slot that has one. All volumes that could have it are looked at by one container,
 * and not again for a while where they have not.
 * @returns `null`: there is none
 * @throws {SystemFailure} the engine does not give it
 */
export async function openFormerCache(
  engine: Engine,
  request: FormerCacheRequest,
  signal: AbortSignal,
): Promise<FormerCache | null> {
  const { path, scratch } = request;
  const misses = missed.get(engine) ?? new Map<string, number>();
  missed.set(engine, misses);
  const now = performance.now();
  const keyOf = ({ name }: Kept): string => `${name} ${path}`;
  const candidates = keptOf(request, await findFormer(engine, signal)).filter(
    (kept) => now - (misses.get(keyOf(kept)) ?? Number.NEGATIVE_INFINITY) > MISS_MS,
  );
  const volumes = candidates.filter(({ kind }) => kind === "volume").map(({ name }) => name);
  let reader: string | undefined;
  let found: FormerCache | null = null;
  try {
    for (const kept of candidates) {
      if (kept.kind === "volume") reader ??= await createReader(engine, volumes, scratch, signal);
      const place =
        kept.kind === "container" || reader === undefined
          ? { container: kept.name, path: `${CACHES}/${path}` }
          : { container: reader, path: `${mountOf(volumes.indexOf(kept.name))}/${path}` };
      const archive = await openArchive(engine, place, signal);
      if (archive === null) {
        misses.delete(keyOf(kept));
        misses.set(keyOf(kept), now);
        continue;
      }
      const mine = reader;
      const close = async (): Promise<void> => {
        archive.close();
        if (mine !== undefined) await removeContainer(engine, mine, never);
      };
      found = { content: archive.content, bytes: archive.bytes, from: kept.from, [Symbol.asyncDispose]: close };
      return found;
    }
    return null;
  } finally {
    for (const oldest of [...misses.keys()].slice(0, Math.max(0, misses.size - MOST_MISSES))) misses.delete(oldest);
    if (found === null && reader !== undefined) await removeContainer(engine, reader, never);
  }
}

interface Kept {
  readonly kind: "volume" | "container";
  readonly name: string;
  /** For people. */
  readonly from: string;
}

/** What there is of those names, in the order in which it is looked at. */
function keptOf(
  { names, protectedOnly }: Pick<FormerCacheRequest, "names" | "protectedOnly">,
  { volumes, containers }: Former,
): Kept[] {
  if (volumes.size === 0 && containers.size === 0) return [];
  const slots = Array.from({ length: MOST_SLOTS }, (_, slot) => slot);
  return slots.flatMap((slot) =>
    names(slot).flatMap((name) => {
      const place = `${name}-cache-${md5(CACHES)}`;
      const volume = protectedOnly ? `${place}-protected` : place;
      const from = `${protectedOnly ? "protected " : ""}slot ${slot} of another runner`;
      const kept: Kept[] = volumes.has(volume) ? [{ kind: "volume", name: volume, from }] : [];
      // The Go runner's, which knew nothing of protected refs.
      if (!protectedOnly && containers.has(place)) kept.push({ kind: "container", name: place, from });
      return kept;
    }),
  );
}

/** Where a container sees the volumes that it is made to read. */
const mountOf = (index: number): string => `/alloy-former/${index}`;

/** @returns the id of a container that is never started */
async function createReader(
  engine: Engine,
  volumes: readonly string[],
  { image, name, labels }: FormerCacheRequest["scratch"],
  signal: AbortSignal,
): Promise<string> {
  const body = {
    name,
    Image: image,
    Labels: { ...labels },
    Entrypoint: ["sh"],
    HostConfig: { Binds: volumes.map((volume, index) => `${volume}:${mountOf(index)}:ro`), NetworkMode: "none" },
  };
  return await createContainer(engine, "a container to read caches from", body, signal);
}
