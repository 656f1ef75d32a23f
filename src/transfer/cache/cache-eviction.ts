import { lstat, readdir, rm, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { isTrustedDirectory } from "../../files/trusted-path.ts";
import { freeBytesOf } from "../room.ts";
import { PASSING, POINTER, readPointer } from "./cache-pointer.ts";

/** What a dead process was writing is removed after this time; a living process writes more often. */
const LEFTOVER_MS = 3_600_000;
/** Namespaces nest, but not deeper than this. */
const DEEPEST = 24;

export interface EvictRequest {
  readonly dir: string;
  /** Limit of all caches together; `null`: there is none. */
  readonly maxBytes: number | null;
  /** What the disk should have free. */
  readonly freeBytes: number;
  /** The cache that was just written, or is about to be. */
  readonly keep: string | null;
  /** Whether to leave out directories that another user can change. */
  readonly guarded: boolean;
  /** What was being written before this (milliseconds since 1970), by a process that has the directory for itself, is rubbish. */
  readonly writersSince?: number;
}

interface Found {
  readonly directory: string;
  readonly bytes: number;
  /** When it was written or read last. */
  readonly usedAt: number;
}

/**
 * Remove the caches that were not used for longest until those that are left fit and the disk has enough free. For the disk's sake
 * none goes unless that helps. Others may write, read and evict at the same time: what is gone already is fine, and what is being
 * read stays until it was read.
 * @returns bytes of what was removed
 */
export async function evictCaches(request: EvictRequest): Promise<number> {
  const { dir, maxBytes, freeBytes, keep, guarded, writersSince = Date.now() - LEFTOVER_MS } = request;
  const found: Found[] = [];
  for await (const directory of cachesBelow(dir, guarded, 0)) {
    const size = await sweepCache(directory, writersSince);
    if (size !== null) found.push(size);
  }
  const total = found.reduce((sum, { bytes }) => sum + bytes, 0);
  const removable = found.filter(({ directory }) => directory !== keep);
  const most = removable.reduce((sum, { bytes }) => sum + bytes, 0);
  const missing = freeBytes <= 0 ? 0 : freeBytes - (await freeBytesOf(dir).catch(() => freeBytes));
  const wanted = Math.max(maxBytes === null ? 0 : total - maxBytes, missing > most ? 0 : missing);
  let removed = 0;
  for (const { directory, bytes } of removable.sort((a, b) => a.usedAt - b.usedAt)) {
    if (removed >= wanted) break;
    await removeCache(directory);
    removed += bytes;
  }
  return removed;
}

async function* cachesBelow(directory: string, guarded: boolean, depth: number): AsyncGenerator<string> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isDirectory()) continue; // links are left alone
    const path = join(directory, entry.name);
    if (guarded && !(await isTrustedDirectory(path))) continue;
    if (entry.name.startsWith("key=")) yield path;
    else if (depth < DEEPEST) yield* cachesBelow(path, guarded, depth + 1);
  }
}

/**
 * Removes what a dead process has left in a cache's directory.
 * @returns what the cache takes; `null`: there is none
 */
async function sweepCache(directory: string, writersSince: number): Promise<Found | null> {
  const pointer = await readPointer(directory);
  const used = await lstat(join(directory, POINTER)).catch(() => null);
  for (const name of await readdir(directory).catch(() => [])) {
    if (!PASSING.test(name) || name === pointer?.archive) continue;
    const path = join(directory, name);
    // The change time, because a second name for an archive has the archive's own times.
    const changedAt = (await lstat(path).catch(() => null))?.ctimeMs ?? Date.now();
    if (changedAt < writersSince) await rm(path, { force: true }).catch(() => undefined);
  }
  if (pointer === null || used === null) {
    await rmdir(directory).catch(() => undefined);
    return null;
  }
  return { directory, bytes: pointer.bytes, usedAt: used.mtimeMs };
}

/** The pointer goes first: without it nobody looks for the archive. */
async function removeCache(directory: string): Promise<void> {
  const pointer = await readPointer(directory);
  await unlink(join(directory, POINTER)).catch(() => undefined);
  if (pointer !== null) await rm(join(directory, pointer.archive), { force: true }).catch(() => undefined);
  await rmdir(directory).catch(() => undefined); // it is not empty while somebody writes there
}
