import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import {
  chmod,
  lstat,
  lutimes,
  mkdir,
  open,
  readdir,
  rename,
  rmdir,
  statfs,
  symlink,
  unlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import type { TarItem } from "../../../src/files/tar.ts";
import { tidyAfter } from "../../../src/files/tidy.ts";
import {
  createSentences,
  fileName,
  fileNameText,
  type UnpackLimits,
  type UnpackReport,
} from "../../../src/workspace.ts";
import { below, parentOf, pathOf } from "../../common/files/paths.ts";
import { placedOf } from "../../common/files/placed.ts";
import { admitted, type Directory, type Move, planMoves, refused } from "../../common/files/unpack-rules.ts";
import { bytesOf, codeOf, inParallel, isMissing } from "./paths.ts";

interface UnpackPlaces {
  /** The checkout, absolute. */
  readonly root: string;
  /** Beside the checkout, the job's own. */
  readonly tmpDir: string;
}

const SMALL_BYTES = 512 * 1024;
const PIECE_BYTES = 1024 * 1024;
/** Small files that are written at once. */
const WIDTH = 8;

/**
 * `WorkspaceFiles.unpack` on this machine: all of it goes into a new directory first, where nothing can be in the way and no
 * link leads out, and is moved to its place when it is complete.
 */
export async function unpackFiles(
  { root, tmpDir }: UnpackPlaces,
  tar: AsyncIterable<unknown>,
  limits: UnpackLimits,
  signal: AbortSignal,
): Promise<UnpackReport> {
  const staging = await makeStaging(root, tmpDir);
  try {
    const staged = await stage(staging, tar, limits, signal);
    const top = pathOf(root);
    const moves = await movesOf(staging, top, staged.directories);
    signal.throwIfAborted();
    for (const { from, to, clear } of moves) {
      if (clear) await unlink(bytesOf(to)).catch(storing(to));
      await rename(bytesOf(from), bytesOf(to)).catch(storing(to.slice(top.length + 1)));
    }
    // From the deepest up: a directory that may not be written must have all that belongs into it.
    for (const level of byDepth(staged.directories)) {
      await inParallel(level, WIDTH, async ([path, { mode, mtimeSeconds }]) => {
        const full = bytesOf(below(top, path));
        await chmod(full, mode & 0o777).catch(storing(path));
        await utimes(full, mtimeSeconds, mtimeSeconds).catch(storing(path));
      });
    }
    const placed = placedOf(moves, top, staged.directories);
    const { entries, bytes, warnings } = staged;
    return { entries, bytes, warnings, ...(placed === null ? {} : { placed }) };
  } finally {
    await removeTree(staging).catch(() => {});
  }
}

/** The deepest first. */
function byDepth(directories: ReadonlyMap<string, Directory>): (readonly [string, Directory])[][] {
  const levels: (readonly [string, Directory])[][] = [];
  for (const entry of directories) (levels[entry[0].split("/").length] ??= []).push(entry);
  return levels.filter((level) => level !== undefined).reverse();
}

/** Turns what a system call says into a failure that names the file. */
function storing(path: string): (cause: unknown) => never {
  return (cause) => {
    throw new SystemFailure(`Cannot unpack ${fileNameText(path)}`, { cause });
  };
}

async function makeStaging(root: string, tmpDir: string): Promise<string> {
  const name = `unpack-${randomBytes(8).toString("hex")}`;
  try {
    await mkdir(bytesOf(pathOf(root)), { recursive: true });
    const found = await lstat(bytesOf(pathOf(root)));
    if (!found.isDirectory()) throw new ScriptFailure(`${root} is not a directory (any more)`);
    await mkdir(bytesOf(pathOf(tmpDir)), { recursive: true, mode: 0o700 });
    // Moving is cheap only within one file system.
    const near = (await lstat(bytesOf(pathOf(tmpDir)))).dev === found.dev;
    const staging = below(pathOf(near ? tmpDir : root), near ? name : `.alloy-${name}`);
    await mkdir(bytesOf(staging), { mode: 0o700 });
    return staging;
  } catch (error) {
    if (error instanceof ScriptFailure) throw error;
    throw new SystemFailure(`Cannot unpack into ${root}`, { cause: error });
  }
}

/**
 * Which bits of a mode a new file keeps: the process's mask, or the access list of a directory of the job's, may take some. Looked
 * at once, so that files whose mode stays need no call for it.
 */
async function keptBits(staging: string): Promise<number> {
  const probe = bytesOf(`${staging}.mode`);
  try {
    await writeFile(probe, "", { flag: "wx", mode: 0o777 });
    return (await lstat(probe)).mode & 0o777;
  } finally {
    await unlink(probe).catch(() => {});
  }
}

interface Staged {
  readonly entries: number;
  readonly bytes: number;
  readonly warnings: readonly string[];
  /** Those that are entries themselves. */
  readonly directories: ReadonlyMap<string, Directory>;
}

async function stage(
  staging: string,
  tar: AsyncIterable<unknown>,
  limits: UnpackLimits,
  signal: AbortSignal,
): Promise<Staged> {
  const directories = new Map<string, Directory>();
  const links = new Map<string, { target: string; mtimeSeconds: number }>();
  const made = new Set<string>([""]);
  const files = new Set<string>();
  const warnings = createSentences();
  const writing = new Set<Promise<void>>();
  const failure: { error?: unknown } = {};
  const tally = { entries: 0, bytes: 0 };

  const full = (path: string): Buffer => bytesOf(path === "" ? staging : `${staging}/${path}`);
  const kept = await keptBits(staging).catch(storing("."));
  const makeDirectory = async (path: string): Promise<void> => {
    if (made.has(path)) return;
    await makeDirectory(parentOf(path));
    await mkdir(full(path)).catch((error: unknown) => {
      if (codeOf(error) !== "EEXIST") throw storing(path)(error);
      if (files.has(path)) throw refused(path, "is a file and a directory");
      warnings.add(`${fileNameText(path)} differs from another name only in case: on this machine they are one.`);
    });
    made.add(path);
  };
  const idle = async (most: number): Promise<void> => {
    while (writing.size > most) await Promise.race(writing);
    if ("error" in failure) throw failure.error;
  };
  /** Make a new file, where nothing is or what the archive had there before. */
  const fresh = async <T>(path: string, make: () => Promise<T>): Promise<T> => {
    return await make().catch(async (error: unknown) => {
      if (codeOf(error) !== "EEXIST") throw error;
      if (made.has(path)) throw refused(path, "is a file and a directory");
      await unlink(full(path));
      warnings.add(
        files.has(path)
          ? `${fileNameText(path)} is in the archive twice: the last one stays.`
          : `${fileNameText(path)} differs from another name only in case: on this machine the last one stays.`,
      );
      return await make();
    });
  };
  const failed = (path: string, error: unknown): void => {
    if (error instanceof ScriptFailure || error instanceof SystemFailure || signal.aborted) throw error;
    storing(path)(error);
  };
  /** In as few calls as can be: they are what most of the time goes to. */
  const writeSmall = async ({ mode, mtimeSeconds }: TarItem, path: string, bytes: Buffer): Promise<void> => {
    try {
      const at = full(path);
      await fresh(path, () => writeFile(at, bytes, { flag: "wx", mode: mode & 0o777 }));
      if ((mode & 0o777 & ~kept) !== 0) await chmod(at, mode & 0o777);
      await utimes(at, mtimeSeconds, mtimeSeconds);
    } catch (error) {
      failed(path, error);
    }
  };
  const writeLarge = async (item: TarItem, path: string): Promise<void> => {
    try {
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
      const file = await fresh(path, () => open(full(path), flags, 0o600));
      try {
        for (let left = item.size; left > 0; ) {
          signal.throwIfAborted();
          const piece = await item.body.some(PIECE_BYTES);
          left -= piece.length;
          await writeAll(file, piece);
          tidyAfter(piece.length);
        }
        await file.chmod(item.mode & 0o777);
        await file.utimes(item.mtimeSeconds, item.mtimeSeconds);
      } finally {
        await file.close();
      }
    } catch (error) {
      failed(path, error);
    }
  };
  const free = async (): Promise<number> => {
    const { bavail, bsize } = await statfs(bytesOf(staging));
    return bavail * bsize;
  };

  try {
    for await (const { path, item } of admitted(tar, limits, tally, free)) {
      signal.throwIfAborted();
      if (item.kind === "directory") {
        if (links.has(path)) throw refused(path, "is a link and a directory");
        await makeDirectory(path);
        directories.set(path, item);
        continue;
      }
      await makeDirectory(parentOf(path));
      if (item.kind === "symlink") links.set(path, { target: item.target, mtimeSeconds: item.mtimeSeconds });
      else {
        links.delete(path);
        if (item.size > SMALL_BYTES) {
          await idle(0);
          await writeLarge(item, path);
        } else {
          const whole = item.body.now(item.size) ?? (await item.body.take(item.size));
          tidyAfter(item.size);
          await idle(files.has(path) ? 0 : WIDTH - 1);
          const work: Promise<void> = writeSmall(item, path, whole)
            .catch((error: unknown) => {
              failure.error ??= error;
            })
            .finally(() => writing.delete(work));
          writing.add(work);
        }
        files.add(path);
      }
    }
    await idle(0);
  } finally {
    await Promise.allSettled(writing);
  }
  // Links come last: nothing of the archive can be written through them.
  for (const [path, { target, mtimeSeconds }] of links) {
    if (made.has(path)) throw refused(path, "is a link, and there are entries below it");
    if (files.has(path)) await unlink(full(path));
    await symlink(bytesOf(fileName(target)), full(path)).catch(storing(path));
    await lutimes(full(path), mtimeSeconds, mtimeSeconds).catch(() => {}); // not everywhere
  }
  return { ...tally, warnings: warnings.list, directories };
}

async function writeAll(file: Awaited<ReturnType<typeof open>>, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, null)).bytesWritten;
  }
}

async function movesOf(staging: string, top: string, entries: ReadonlyMap<string, Directory>): Promise<Move[]> {
  return await planMoves({
    staging,
    top,
    entries,
    names: async (inside) =>
      (await readdir(bytesOf(below(staging, inside) || staging), { encoding: "buffer" })).map((name) => fileName(name)),
    look: async (path) => {
      const stats = await lstat(bytesOf(path)).catch((error: unknown) =>
        isMissing(error) ? null : storing(path)(error),
      );
      return stats === null ? null : stats.isDirectory() ? "directory" : stats.isSymbolicLink() ? "symlink" : "other";
    },
  });
}

/** Remove a directory of ours, whatever the names in it. Links are removed, not followed. */
export async function removeTree(path: string): Promise<void> {
  const names = await readdir(bytesOf(path), { encoding: "buffer" }).catch((error: unknown) => {
    if (isMissing(error)) return null;
    throw error;
  });
  if (names === null) return;
  await inParallel(names, WIDTH, async (name) => {
    const inside = `${path}/${name.toString("latin1")}`;
    if ((await lstat(bytesOf(inside))).isDirectory()) await removeTree(inside);
    else await unlink(bytesOf(inside));
  });
  await rmdir(bytesOf(path));
}
