import { randomBytes } from "node:crypto";
import type { Stats } from "node:fs";
import { type FileHandle, lstat, mkdir, open, readdir, readlink, rename, stat, unlink } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { ConfigError } from "../../errors.ts";
import { errorCode } from "../error-code.ts";

/** Replacing a private file in one step: whatever happens, the old one or the new one is there, complete. */

/** Where a chain of links ends, also if nothing is there yet: the link stays, its target is replaced. */
export async function targetOf(file: string): Promise<string> {
  let path = resolve(file);
  for (let hops = 0; hops < 40; hops++) {
    const stats = await lstat(path).catch(() => null);
    if (stats === null || !stats.isSymbolicLink()) return path;
    path = resolve(dirname(path), await readlink(path));
  }
  throw new ConfigError(`${file}: the link leads in a circle. Point it at a file`, { file });
}

export async function prepareDirectory(path: string): Promise<void> {
  await step(path, `make the directory ${dirname(path)}`, () => mkdir(dirname(path), { recursive: true, mode: 0o700 }));
}

export function lockPathOf(path: string): string {
  return join(dirname(path), `.${basename(path)}.lock`);
}

/**
 * Replace `path` by `text`, owner kept, mode kept or tightened, on disk when this resolves. Called under the lock.
 * @throws {ConfigError} naming the step that failed; `path` is then as it was
 */
export async function replaceFile(path: string, text: string): Promise<void> {
  await sweep(path);
  const old = await step(path, "look at the file", () => ignoring(["ENOENT"], stat(path)));
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
  const handle = await step(path, `make a file in ${dirname(path)}`, () => open(temporary, "wx", 0o600));
  try {
    try {
      await step(path, "write the new version", () => handle.writeFile(text));
      await keepOwner(path, handle, old);
      await step(path, "set the mode of the new version", () => handle.chmod(modeFor(old)));
      await step(path, "write the new version to disk", () => handle.sync());
    } finally {
      await handle.close();
    }
    await step(path, "put the new version in place", () => rename(temporary, path));
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** A mode that admits nobody but owner and perhaps a reading group was chosen: it stays. All others become 0600. */
function modeFor(old: Stats | null): number {
  if (old === null) return 0o600;
  const mode = old.mode & 0o777;
  return (mode & 0o037) === 0 ? mode & 0o640 : mode & 0o600;
}

async function keepOwner(path: string, handle: FileHandle, old: Stats | null): Promise<void> {
  if (old === null || process.platform === "win32") return;
  const made = await handle.stat();
  if (made.uid === old.uid && made.gid === old.gid) return;
  await step(path, `keep the owner (user ${old.uid}, group ${old.gid})`, () => handle.chown(old.uid, old.gid));
}

/** What a writer that was killed left behind. Only the holder of the lock may have such a file. */
async function sweep(path: string): Promise<void> {
  const prefix = `.${basename(path)}.`;
  for (const name of await readdir(dirname(path)).catch(() => [])) {
    const middle = name.slice(prefix.length, -".tmp".length);
    if (name.startsWith(prefix) && name.endsWith(".tmp") && /^[0-9a-f]{12}$/.test(middle)) {
      await unlink(join(dirname(path), name)).catch(() => {});
    }
  }
}

/** So that the rename survives a power cut. Not every system can; the file itself is safe by then. */
async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, "r").catch(() => null);
  if (handle === null) return;
  try {
    await handle.sync();
  } catch {
    // Windows and some network file systems refuse.
  } finally {
    await handle.close();
  }
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: "Free some space on that disk",
  EDQUOT: "Free some space on that disk",
  EROFS: "The disk is mounted read-only",
  EACCES: "Run as root or as the owner of that directory",
  EPERM: "Run as root or as the owner of the file",
  EBUSY: "It is mounted by itself: mount its directory instead",
  EXDEV: "It is mounted by itself: mount its directory instead",
  ENOTDIR: "A part of the path is a file",
};

async function step<T>(path: string, what: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (cause) {
    const code = errorCode(cause);
    const remedy = REMEDIES[code] ?? "Mend that";
    throw new ConfigError(`${path}: cannot ${what} (${code}). Nothing was changed. ${remedy} and try again`, {
      file: path,
      cause,
    });
  }
}

async function ignoring<T>(codes: readonly string[], work: Promise<T>): Promise<T | null> {
  return work.catch((error: unknown) => {
    if (codes.includes(errorCode(error))) return null;
    throw error;
  });
}
