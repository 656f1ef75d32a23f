import { chmod, lstat, readdir, rm, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { SystemFailure } from "../../../src/errors.ts";
import { longPath } from "./surroundings.ts";

/** A scanner or an ending process may hold a file for a moment. */
const TRIES = 5;
const PAUSE_MS = 200;

/** Not Node's `recursive`, which stops at a read-only file, as git's objects are. Links are removed as links. */
async function removeTree(path: string): Promise<void> {
  const found = await lstat(path);
  if (found.isDirectory()) {
    for (const name of await readdir(path)) await removeTree(join(path, name));
    await rmdir(path);
    return;
  }
  await unlink(path).catch(async () => {
    await chmod(path, 0o666);
    // A link to a directory is one that `rmdir` removes.
    await unlink(path).catch(() => rmdir(path));
  });
}

/**
 * Remove a directory that jobs have written to, with read-only files and paths of any length. Missing is fine.
 * @returns whether there was something
 * @throws {SystemFailure} something of it is left
 */
export async function removeOnWindows(path: string, signal: AbortSignal): Promise<boolean> {
  if ((await lstat(path).catch(() => null)) === null) return false;
  let cause: unknown;
  for (let attempt = 1; attempt <= TRIES; attempt++) {
    signal.throwIfAborted();
    try {
      await rm(path, { recursive: true, force: true });
      return true;
    } catch {
      // Slower, and of more patience.
    }
    try {
      await removeTree(longPath(path));
      return true;
    } catch (error) {
      cause = error;
      if ((await lstat(path).catch(() => null)) === null) return true;
      await wait(PAUSE_MS, undefined, { signal }).catch(() => {});
    }
  }
  throw new SystemFailure(`Cannot remove ${path}: a program may have a file of it open`, { cause, retry: true });
}
