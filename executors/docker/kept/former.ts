import { Readable } from "node:stream";
import { z } from "zod";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { FormerCache } from "../../../src/executor/environment.ts";
import type { TarItem } from "../../../src/files/tar.ts";
import { readTar } from "../../../src/files/tar.ts";
import { never, unlessAborted } from "../../../src/time.ts";
import { createContainer } from "../container/container.ts";
import { md5 } from "../container/places.ts";
import { removeContainer } from "../container/remove.ts";
import { type Engine, isGone } from "../engine/engine.ts";

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

/**
 * An archive as they have left it, of the first slot that has one.
 * @returns `null`: there is none
 * @throws {SystemFailure} the engine does not give it
 */
export async function openFormerCache(
  engine: Engine,
  { names, protectedOnly, path, scratch }: FormerCacheRequest,
  signal: AbortSignal,
): Promise<FormerCache | null> {
  const { volumes, containers } = await findFormer(engine, signal);
  for (let slot = 0; slot < MOST_SLOTS; slot++) {
    for (const name of names(slot)) {
      const place = `${name}-cache-${md5(CACHES)}`;
      const volume = protectedOnly ? `${place}-protected` : place;
      const from = `${protectedOnly ? "protected " : ""}slot ${slot} of another runner`;
      if (volumes.has(volume)) {
        const found = await openInVolume(engine, { volume, path, scratch }, signal);
        if (found !== null) return { ...found, from };
      }
      // The Go runner's, which knew nothing of protected refs.
      if (!protectedOnly && containers.has(place)) {
        const found = await openInContainer(engine, place, path, signal);
        if (found !== null) return { ...found, from };
      }
    }
  }
  return null;
}

type Opened = Omit<FormerCache, "from">;

async function openInVolume(
  engine: Engine,
  { volume, path, scratch }: Pick<FormerCacheRequest, "path" | "scratch"> & { readonly volume: string },
  signal: AbortSignal,
): Promise<Opened | null> {
  const body = {
    name: scratch.name,
    Image: scratch.image,
    Labels: { ...scratch.labels },
    Entrypoint: ["sh"],
    HostConfig: { Binds: [`${volume}:${CACHES}:ro`], NetworkMode: "none" },
  };
  const id = await createContainer(engine, "a container to read a cache from", body, signal);
  let found: Opened | null = null;
  try {
    found = await openInContainer(engine, id, path, signal);
  } finally {
    if (found === null) await removeContainer(engine, id, never);
  }
  if (found === null) return null;
  const { content, bytes } = found;
  const close = found[Symbol.asyncDispose];
  return {
    content,
    bytes,
    [Symbol.asyncDispose]: async () => {
      await close();
      await removeContainer(engine, id, never);
    },
  };
}

async function openInContainer(
  engine: Engine,
  container: string,
  path: string,
  signal: AbortSignal,
): Promise<Opened | null> {
  const what = `read ${CACHES}/${path} of a container`;
  let stream: NodeJS.ReadableStream;
  try {
    stream = await engine.call(
      what,
      (docker, abortSignal) => docker.getContainer(container).getArchive({ path: `${CACHES}/${path}`, abortSignal }),
      signal,
    );
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
  if (!(stream instanceof Readable)) throw new SystemFailure(`Cannot ${what}: the container engine sends no archive`);
  let item: TarItem | undefined;
  try {
    ({ value: item } = await readTar(stream).next());
  } catch (error) {
    stream.destroy();
    throw new SystemFailure(`Cannot ${what}: ${describeError(error)}`, { cause: error });
  }
  // A job could have put a link there.
  if (item === undefined || item.kind !== "file" || item.size === 0) {
    stream.destroy();
    return null;
  }
  return {
    content: Readable.from(bodyOf(item), { objectMode: false }),
    bytes: item.size,
    [Symbol.asyncDispose]: async () => void stream.destroy(),
  };
}

const PIECE_BYTES = 256 * 1024;

async function* bodyOf({ body, size }: TarItem): AsyncGenerator<Buffer> {
  for (let left = size; left > 0; ) {
    const piece = await body.some(Math.min(left, PIECE_BYTES));
    left -= piece.length;
    yield piece;
  }
}
