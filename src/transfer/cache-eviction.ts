import { lstat, readdir, rm, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { isTrustedDirectory } from "../trusted-path.ts";
import { PASSING, POINTER, readPointer } from "./cache-pointer.ts";

/** What a process that died left behind is removed after this time; nobody reads or writes a cache for so long. */
const LEFTOVER_MS = 24 * 3_600_000;
/** Namespaces nest; deeper than this nobody's do. */
const DEEPEST = 24;

export interface EvictRequest {
  readonly dir: string;
  readonly maxBytes: number;
  /** The cache that was just written. */
  readonly keep: string;
  /** Directories that another user can change are not looked into. */
  readonly guarded: boolean;
}

interface Found {
  readonly directory: string;
  readonly bytes: number;
  /** When it was written or read last. */
  readonly usedAt: number;
}

/**
 * Remove the caches that were not used for longest until those that are left fit. Others may write, read and evict at the
 * same time: what is gone already is fine, and what is being read stays until it was read.
 */
export async function evictCaches({ dir, maxBytes, keep, guarded }: EvictRequest): Promise<void> {
  const found: Found[] = [];
  for await (const directory of cachesBelow(dir, guarded, 0)) {
    const size = await sweepCache(directory);
    if (size !== null) found.push(size);
  }
  let total = found.reduce((sum, { bytes }) => sum + bytes, 0);
  for (const { directory, bytes } of found.sort((a, b) => a.usedAt - b.usedAt)) {
    if (total <= maxBytes) return;
    if (directory === keep) continue;
    await removeCache(directory);
    total -= bytes;
  }
}

async function* cachesBelow(directory: string, guarded: boolean, depth: number): AsyncGenerator<string> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isDirectory()) continue; // a link is none
    const path = join(directory, entry.name);
    if (guarded && !(await isTrustedDirectory(path))) continue;
    if (entry.name.startsWith("key=")) yield path;
    else if (depth < DEEPEST) yield* cachesBelow(path, guarded, depth + 1);
  }
}

/** Remove what a dead process left in a cache's directory. @returns what the cache takes; `null`: there is none */
export async function sweepCache(directory: string): Promise<Found | null> {
  const pointer = await readPointer(directory);
  const used = await lstat(join(directory, POINTER)).catch(() => null);
  for (const name of await readdir(directory).catch(() => [])) {
    if (!PASSING.test(name) || name === pointer?.archive) continue;
    const path = join(directory, name);
    // The change time, because a second name for an archive has the archive's own times.
    const changedAt = (await lstat(path).catch(() => null))?.ctimeMs ?? Date.now();
    if (Date.now() - changedAt > LEFTOVER_MS) await rm(path, { force: true }).catch(() => undefined);
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
  await rmdir(directory).catch(() => undefined); // not while somebody writes there
}
