import { chmod, lstat, readdir, rm, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";

/**
 * Remove a file, a link or a directory with all that is in it; links are removed as links. Missing is fine. On Windows also
 * read-only files, and what lies deeper than 260 characters.
 * Rejects with the file system's error if something is left.
 */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (process.platform !== "win32") throw error;
    await removeEntries(longPath(path));
  }
}

/**
 * For Windows, entry by entry: `rm` stops there at a read-only file, as git's objects are, and Bun's `rm` fails for any
 * directory under Wine (EFAULT).
 */
export async function removeEntries(path: string): Promise<void> {
  const found = await lstat(path).catch(unlessMissing);
  if (found === null) return;
  if (found.isDirectory()) {
    for (const name of await readdir(path)) await removeEntries(join(path, name));
    await rmdir(path).catch(unlessMissing);
    return;
  }
  await unlink(path).catch(async () => {
    await chmod(path, 0o666).catch(unlessMissing);
    // On Windows a link to a directory is removed by `rmdir`, which answers ENOENT for a file that is in use.
    await unlink(path).catch((error: unknown) => rmdir(path).catch(() => unlessMissing(error)));
  });
}

/** Another process has removed it first. */
function unlessMissing(error: unknown): null {
  if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
  throw error;
}

/**
 * The form of an absolute path that may be longer than 260 characters, and may end in characters that Windows would cut
 * off.
 */
export function longPath(path: string): string {
  if (/^[A-Za-z]:[\\/]/.test(path)) return `\\\\?\\${path.replaceAll("/", "\\")}`;
  const share = /^[\\/]{2}([^\\/?.].*)$/s.exec(path)?.[1];
  return share === undefined ? path : `\\\\?\\UNC\\${share.replaceAll("/", "\\")}`;
}
