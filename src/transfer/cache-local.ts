import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, link, mkdir, open, realpath, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describeError, SystemFailure } from "../errors.ts";
import { evictCaches, sweepCache } from "./cache-eviction.ts";
import { hasCode, POINTER, passingName, readPointer, replacePointer } from "./cache-pointer.ts";
import type { CachePlace, CacheStore, NewCache, StoredCache } from "./cache-store.ts";

/**
 * Caches in a directory of this machine. A cache is a directory
 * `<dir>/<namespace>/<project>/key=<key>~<hash>` with `current.json`, which names the archive beside it. That file is
 * replaced in one rename, so two jobs that write one key at once never leave a mixture, and no lock is needed. `=` stands
 * in no project's path, so that no key's place is another project's.
 */

export interface LocalCachesOptions {
  /** Only the runner writes here. */
  readonly dir: string;
  /** Where older runners may have left caches, as `<namespace>/<project>/<key>/cache.zip`; only read. */
  readonly oldDir: string;
  /** What tells coordinators apart: projects of two of them may have the same name and number. */
  readonly coordinator: string;
  /** `null`: no limit. */
  readonly maxBytes: number | null;
}

export function openLocalCaches({ dir, oldDir, coordinator, maxBytes }: LocalCachesOptions): CacheStore {
  const directoryOf = ({ projectPath, projectId, key }: CachePlace): string => {
    const identity = JSON.stringify([coordinator, projectId, projectPath, key]);
    const hash = createHash("sha256").update(identity).digest("hex").slice(0, 16);
    const readable = key.replace(/[^A-Za-z0-9._+@-]/g, "_").slice(0, 80);
    return join(dir, projectPath, `key=${readable}~${hash}`);
  };

  return {
    where: "on this machine",
    format: "tarzstd",

    async fingerprint(place) {
      const directory = directoryOf(place);
      const pointer = await readPointer(directory);
      if (pointer === null) return null;
      const found = await stat(join(directory, pointer.archive)).catch(() => null);
      return found?.size === pointer.bytes ? pointer.fingerprint : null;
    },

    async open(place) {
      const directory = directoryOf(place);
      try {
        // Whoever replaces the cache in between removes the archive that was just read about.
        return (await pin(directory)) ?? (await pin(directory)) ?? (await openOld(oldDir, place));
      } catch (cause) {
        throw unusable(directory, cause);
      }
    },

    async put(place, cache, _onBytes, signal) {
      const directory = directoryOf(place);
      try {
        return await put(directory, cache, maxBytes, signal);
      } catch (cause) {
        signal.throwIfAborted();
        if (cause instanceof SystemFailure) throw cause;
        throw unusable(directory, cause);
      } finally {
        await (maxBytes === null ? sweepCache(directory) : evictCaches({ dir, maxBytes, keep: directory }));
      }
    },
  };
}

/** A second name for the archive, so that it stays when the cache is replaced or evicted meanwhile. */
async function pin(directory: string): Promise<StoredCache | null> {
  const pointer = await readPointer(directory);
  if (pointer === null) return null;
  const archive = join(directory, pointer.archive);
  const path = join(directory, passingName("reading"));
  try {
    await link(archive, path);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return null;
    // Not every file system has links.
    await copyFile(archive, path, constants.COPYFILE_FICLONE);
  }
  const now = new Date();
  await utimes(join(directory, POINTER), now, now).catch(() => undefined); // what was used last is evicted last
  return { path, bytes: pointer.bytes, [Symbol.asyncDispose]: () => rm(path, { force: true }) };
}

/**
 * The archive that a Go runner left. Its jobs could write there, so nothing that leads elsewhere by a link is read.
 */
async function openOld(dir: string, { projectPath, key }: CachePlace): Promise<StoredCache | null> {
  const inside = join(projectPath, key, "cache.zip");
  try {
    const path = join(await realpath(dir), inside);
    if ((await realpath(path)) !== path) return null;
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const found = await file.stat();
    if (!found.isFile() || found.size === 0) return null;
    return { path, bytes: found.size, [Symbol.asyncDispose]: async () => {} };
  } catch {
    return null;
  }
}

async function put(
  directory: string,
  { extension, write }: NewCache,
  maxBytes: number | null,
  signal: AbortSignal,
): Promise<{ bytes: number }> {
  const archive = `${passingName("cache")}${extension}`;
  const temporary = join(directory, passingName("new"));
  const made = [temporary];
  const hold = await enter(directory);
  try {
    const fingerprint = await write(temporary, signal);
    const bytes = await synced(temporary);
    if (maxBytes !== null && bytes > maxBytes) {
      throw new SystemFailure(
        `its archive of ${bytes} bytes is larger than all caches may be (cache_max_size, ${maxBytes} bytes)`,
      );
    }
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

/** Make the directory, with a file in it: who evicts removes empty ones. @returns that file */
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

/** On the disk, so that a power cut leaves no pointer to an archive that is not all there. @returns its size */
async function synced(path: string): Promise<number> {
  await using file = await open(path, "r+");
  await file.sync();
  return (await file.stat()).size;
}

function unusable(directory: string, cause: unknown): SystemFailure {
  return new SystemFailure(`the directory ${directory} cannot be used: ${describeError(cause)}`, { cause });
}
