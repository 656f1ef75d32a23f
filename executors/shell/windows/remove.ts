import { lstat } from "node:fs/promises";
import { setTimeout as wait } from "node:timers/promises";
import { SystemFailure } from "../../../src/errors.ts";
import { removeTree } from "../../../src/files/remove-tree.ts";

/** A scanner or an ending process may hold a file for a moment. */
const TRIES = 5;
const PAUSE_MS = 200;

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
      await removeTree(path);
      return true;
    } catch (error) {
      cause = error;
      if ((await lstat(path).catch(() => null)) === null) return true;
      await wait(PAUSE_MS, undefined, { signal }).catch(() => {});
    }
  }
  throw new SystemFailure(`Cannot remove ${path}: a program may have a file of it open`, { cause, retry: true });
}
