import { constants, type Stats } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { followTrusted } from "../files/trusted-path.ts";

/** A link is not followed, and a pipe is not waited for. */
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** Linux: opens a descriptor that stands for a place, without the effects that opening a device can have. */
const O_PATH = 0o10000000;
/** macOS: no link is followed in any part of the path. */
const O_NOFOLLOW_ANY = 0x20000000;

/** A regular file, opened for reading. Rejects with the system's error; `null`: it is something else. */
export async function openRegular(path: string): Promise<FileHandle | null> {
  return await unless(await open(path, READ), () => false);
}

/**
 * Open a file of a place that a less powerful account can write to. What was looked at is what is read, whatever happens to
 * names meanwhile: links count only where nobody but root can put them, and below the first place where others can, all
 * belongs to one account, so that nothing of anybody else's can have been moved or linked there.
 * @param path absolute
 * @returns `null`: there is no such file, or one that must not be read
 */
export async function openUntrusted(path: string): Promise<FileHandle | null> {
  try {
    const { at, rest, doubt } = await followTrusted(path);
    if (doubt === undefined) return rest.length > 0 ? null : await openRegular(at);
    if (rest.includes("..")) return null;
    if (process.platform === "linux") return await openByDescriptors(at, rest);
    // On other systems a path can be replaced between the check and the call that opens it.
    if (process.platform !== "darwin") return null;
    const file = await open(join(at, ...rest), READ | O_NOFOLLOW_ANY);
    return await unless(file, ({ uid, nlink }) => uid === 0 || nlink !== 1);
  } catch {
    return null;
  }
}

async function openByDescriptors(start: string, names: readonly string[]): Promise<FileHandle | null> {
  let place = await open(start, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    let owner = 0;
    for (const [index, name] of names.entries()) {
      const next = await open(`/proc/self/fd/${place.fd}/${name}`, O_PATH | constants.O_NOFOLLOW);
      await place.close();
      place = next;
      const found = await place.stat();
      const last = index === names.length - 1;
      if (!(last ? found.isFile() : found.isDirectory())) return null;
      if (owner === 0) owner = found.uid;
      if (found.uid !== owner || (last && owner === 0)) return null;
    }
    return await open(`/proc/self/fd/${place.fd}`, constants.O_RDONLY | constants.O_NONBLOCK);
  } finally {
    await place.close();
  }
}

async function unless(file: FileHandle, unfit: (found: Stats) => boolean): Promise<FileHandle | null> {
  let fit = false;
  try {
    const found = await file.stat();
    fit = found.isFile() && !unfit(found);
  } finally {
    if (!fit) await file.close();
  }
  return fit ? file : null;
}
