import { createHash } from "node:crypto";
import { type FileHandle, lstat, mkdir, open, realpath, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describeError, SystemFailure } from "../../errors.ts";
import { isTrustedDirectory } from "../../files/trusted-path.ts";
import { openRegular, openUntrusted } from "../open-untrusted.ts";
import { freeBytesOf, mustHaveRoom } from "../room.ts";
import { evictCaches } from "./cache-eviction.ts";
import { hasCode, POINTER, passingName, readPointer, replacePointer } from "./cache-pointer.ts";
import type { CachePlace, CacheStore, MakeRoom, NewCache, StoredCache } from "./cache-store.ts";

/**
 * Caches in a directory of this machine. A cache is a directory
 * `<dir>/<namespace>/<project>/key=<key>~<hash>` with `current.json`, which names the archive beside it. That file is
 * replaced in one rename, so two jobs that write one key at once never leave a mixture, and no lock is needed. `=` stands
 * in no project's path, so that no key's place is another project's.
 */

export interface LocalCachesOptions {
  /** Directory in which only the runner writes. */
  readonly dir: string;
  /** Where older runners may have left caches, as `<namespace>/<project>/<key>/cache.zip`. Nothing is written there. */
  readonly oldDir: string;
  /** Distinguishes coordinators: projects of two of them may have the same name and number. */
  readonly coordinator: string;
  /** `null`: no limit. */
  readonly maxBytes: number | null;
  /** Jobs have less power than the runner: what they could change is not written to, and read with care. */
  readonly guarded: boolean;
  /** What the disk must still have free when there is a cache more. */
  readonly minFreeBytes: () => number;
}

export function openLocalCaches(options: LocalCachesOptions): CacheStore {
  const { dir, oldDir, coordinator, maxBytes, guarded, minFreeBytes } = options;
  const directoryOf = ({ projectPath, projectId, key }: CachePlace): string => {
    const identity = JSON.stringify([coordinator, projectId, projectPath, key]);
    const hash = createHash("sha256").update(identity).digest("hex").slice(0, 16);
    const readable = key.replace(/[^A-Za-z0-9._+@-]/g, "_").slice(0, 80);
    return join(dir, projectPath, `key=${readable}~${hash}`);
  };
  const foreign = async (directory: string): Promise<string | null> =>
    guarded ? await foreignOnTheWay(dir, directory) : null;

  const openCache = async (place: CachePlace): Promise<StoredCache | null> => {
    const directory = directoryOf(place);
    try {
      const own = (await foreign(directory)) === null;
      // If the cache is replaced in between, the archive that the pointer named is gone, so the pointer is read once
      // more.
      const current = own ? ((await openCurrent(directory)) ?? (await openCurrent(directory))) : null;
      return current ?? (await openOld(oldDir, guarded, place));
    } catch (cause) {
      throw unusable(directory, cause);
    }
  };

  return {
    where: "on this machine",
    format: "tarzstd",
    tries: 1,

    async fingerprint(place) {
      const directory = directoryOf(place);
      const pointer = (await foreign(directory)) === null ? await readPointer(directory) : null;
      if (pointer === null) return null;
      const found = await stat(join(directory, pointer.archive)).catch(() => null);
      return found?.size === pointer.bytes ? pointer.fingerprint : null;
    },

    async version(place) {
      await using stored = await openCache(place);
      return stored?.version ?? null;
    },

    open: openCache,

    async put(place, cache, _onBytes, signal) {
      const directory = directoryOf(place);
      const strange = await foreign(directory);
      if (strange !== null) {
        throw new SystemFailure(
          `root keeps no caches in ${strange}, which another user can change: remove it, or set another cache_dir`,
        );
      }
      const evict = async (freeBytes: number): Promise<number> =>
        await evictCaches({ dir, maxBytes, freeBytes, keep: directory, guarded });
      try {
        return await put(directory, cache, { maxBytes, minFreeBytes: minFreeBytes(), evict }, signal);
      } catch (cause) {
        signal.throwIfAborted();
        if (cause instanceof SystemFailure) throw cause;
        throw unusable(directory, cause);
      } finally {
        await evict(0);
      }
    },
  };
}

/** Opens the archive, so that it stays readable when the cache is replaced or evicted meanwhile. */
async function openCurrent(directory: string): Promise<StoredCache | null> {
  const pointer = await readPointer(directory);
  if (pointer === null) return null;
  const file = await openRegular(join(directory, pointer.archive)).catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  });
  if (file === null) return null;
  const now = new Date();
  await utimes(join(directory, POINTER), now, now).catch(() => undefined); // eviction takes the caches first that were not used for longest
  return await stored(file, pointer.bytes);
}

/** Opens the archive that a Go runner left, in a place where its jobs could write. */
async function openOld(dir: string, guarded: boolean, { projectPath, key }: CachePlace): Promise<StoredCache | null> {
  const inside = join(projectPath, key, "cache.zip");
  const file = guarded ? await openUntrusted(join(dir, inside)) : await openOwn(dir, inside).catch(() => null);
  if (file === null) return null;
  const { size } = await file.stat();
  if (size > 0) return await stored(file, size);
  await file.close();
  return null;
}

/** A job could have put a link there that leads to another project's cache. */
async function openOwn(dir: string, inside: string): Promise<FileHandle | null> {
  const path = join(await realpath(dir), inside);
  return (await realpath(path)) === path ? await openRegular(path) : null;
}

async function stored(file: FileHandle, bytes: number): Promise<StoredCache> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await file.stat({ bigint: true });
  return {
    file,
    bytes,
    version: [dev, ino, size, mtimeNs, ctimeNs].join(" "),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/**
 * Root's own caches lie beside what jobs could write where a Go runner was here before.
 * @returns the first directory from `dir` down to that of a cache that is not the runner's own; `null`: all are, or are its to make
 */
async function foreignOnTheWay(dir: string, directory: string): Promise<string | null> {
  const places: string[] = [];
  for (let place = directory; place.length > dir.length; place = dirname(place)) places.unshift(place);
  for (const place of places) {
    if (await isTrustedDirectory(place)) continue;
    return (await lstat(place).catch(() => null)) === null ? null : place;
  }
  return null;
}

interface Bounds {
  readonly maxBytes: number | null;
  readonly minFreeBytes: number;
  /** Frees this much of the disk, at the cost of other caches. */
  readonly evict: (freeBytes: number) => Promise<unknown>;
}

async function put(
  directory: string,
  { extension, write }: NewCache,
  { maxBytes, minFreeBytes, evict }: Bounds,
  signal: AbortSignal,
): Promise<{ bytes: number }> {
  const archive = `${passingName("cache")}${extension}`;
  const temporary = join(directory, passingName("new"));
  const made = [temporary];
  const hold = await enter(directory);
  const mustFit = (bytes: number): void => {
    if (maxBytes === null || bytes <= maxBytes) return;
    throw new SystemFailure(
      `its archive of ${bytes} bytes is larger than all caches may be (cache_max_size, ${maxBytes} bytes)`,
    );
  };
  const makeRoom: MakeRoom = async (bytes) => {
    mustFit((await stat(temporary).catch(() => null))?.size ?? 0);
    if ((await freeBytesOf(directory)) < minFreeBytes + bytes) await evict(minFreeBytes + bytes);
  };
  try {
    const fingerprint = await write(temporary, signal, makeRoom);
    const bytes = await synced(temporary);
    mustFit(bytes);
    // The runner's own state may lie on the same disk, and it asks for no job while there is no room for it.
    await makeRoom(0);
    await mustHaveRoom(directory, minFreeBytes);
    signal.throwIfAborted();
    const previous = await readPointer(directory);
    await rename(temporary, join(directory, archive));
    made.push(join(directory, archive));
    await replacePointer(directory, { archive, bytes, fingerprint });
    made.pop();
    if (previous !== null) await rm(join(directory, previous.archive), { force: true });
    return { bytes };
  } finally {
    for (const path of [...made, hold]) await rm(path, { force: true }).catch(() => undefined);
  }
}

/**
 * Makes the directory with a file in it, because eviction removes empty directories.
 * @returns that file
 */
async function enter(directory: string): Promise<string> {
  const hold = join(directory, passingName("new"));
  for (let tries = 1; ; tries++) {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      await writeFile(hold, "", { flag: "wx", mode: 0o600 });
      return hold;
    } catch (error) {
      if (tries === 5 || !hasCode(error, "ENOENT")) throw error;
    }
  }
}

/**
 * Writes the file through to the disk, so that a power cut leaves no pointer to an archive that is incomplete.
 * @returns its size
 */
async function synced(path: string): Promise<number> {
  await using file = await open(path, "r+");
  await file.sync();
  return (await file.stat()).size;
}

function unusable(directory: string, cause: unknown): SystemFailure {
  return new SystemFailure(`the directory ${directory} cannot be used: ${describeError(cause)}`, { cause });
}
