import { execFile } from "node:child_process";
import { lstat, readdir, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { SystemFailure } from "../../../src/errors.ts";
import type { Argv } from "../../../src/shell.ts";
import type { Launch } from "../launch/launch.ts";

const run = promisify(execFile);

/**
 * `$1` with all that is in it, never across links or mounts. Directories get their permissions back where that is needed.
 * rm of GNU knows `--one-file-system`, find of busybox and BSD knows `-xdev`; not each busybox has `-delete`.
 */
const REMOVE = `rm -rf --one-file-system "$1" 2>/dev/null && exit
find "$1" -xdev -type d ! -perm -700 -exec chmod u+rwx {} \\; 2>/dev/null
if rm -f --one-file-system 2>/dev/null; then exec rm -rf --one-file-system "$1"; fi
find "$1" -xdev ! -type d -exec rm -f {} +
find "$1" -xdev -depth -type d -exec rmdir {} \\;
[ ! -e "$1" ]`;

async function asUser(launch: Launch, argv: Argv, signal: AbortSignal): Promise<void> {
  const [program, ...args] = launch.command(argv);
  // The account can stop its own processes, and SIGKILL alone ends a stopped one.
  await run(program, args, { cwd: "/", env: launch.environment, signal, killSignal: "SIGKILL" });
}

/** More entries than this, or deeper ones, are `rm`'s work. */
const FEW = 32;
const SHALLOW = 2;

/**
 * Remove a directory that holds at most a few plain files, without a process. Only where jobs have the runner's own
 * rights: then nothing can be reached through a link that they could not reach themselves.
 */
async function removeSmall(path: string, depth = 0): Promise<boolean> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    if (entries.length > FEW || depth > SHALLOW) return false;
    for (const entry of entries) {
      const name = join(path, entry.name);
      if (!entry.isDirectory()) await unlink(name);
      else if (!(await removeSmall(name, depth + 1))) return false;
    }
    await rmdir(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * Remove a directory that jobs have written to, with their rights. Missing is fine.
 * @returns whether there was something
 * @throws {SystemFailure} something of it is left
 */
export async function removeDirectory(launch: Launch, path: string, signal: AbortSignal): Promise<boolean> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return false;
  // A link that a job has put in its place is removed as a link.
  if (launch.account === null && found.isDirectory() && (await removeSmall(path))) return true;
  try {
    await asUser(launch, ["sh", "-c", REMOVE, "sh", path], signal);
    return true;
  } catch (cause) {
    signal.throwIfAborted();
    throw new SystemFailure(`Cannot remove ${path}`, { cause, retry: true });
  }
}

/** Make a directory with this mode, and those above it, with the rights of jobs. Rejects as the program fails. */
export async function makeDirectoryAsUser(
  launch: Launch,
  path: string,
  mode: number,
  signal: AbortSignal,
): Promise<void> {
  await asUser(launch, ["mkdir", "-p", "-m", mode.toString(8), "--", path], signal);
}
