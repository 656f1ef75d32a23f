import { lstat, mkdir } from "node:fs/promises";
import { dirname } from "node:path";

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

/**
 * `mkdir -p`. Not Node's own `recursive`, which tries for ever where a file system answers ENOENT although the parent is
 * there (`/proc`, automounts). Rejects with the error of the one call that failed.
 */
export async function makeDirectories(path: string, mode = 0o777): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (codeOf(error) === "EEXIST") {
      if ((await lstat(path)).isFile()) throw error;
      return;
    }
    const parent = dirname(path);
    if (codeOf(error) !== "ENOENT" || parent === path) throw error;
    await makeDirectories(parent, mode);
    await mkdir(path, { mode }).catch((again: unknown) => {
      if (codeOf(again) !== "EEXIST") throw again; // somebody else was quicker
    });
  }
}
