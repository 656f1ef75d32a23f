import { constants } from "node:fs";
import { access, lchown, lstat, mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import { followTrusted } from "../../../src/files/trusted-path.ts";
import type { Account } from "../launch/account.ts";
import type { Launch } from "../launch/launch.ts";
import { makeDirectories } from "./make-directories.ts";
import { makeDirectoryAsUser } from "./remove.ts";

/** Sources and what is built of them are nobody else's business, wherever `builds_dir` is. */
const PRIVATE = 0o700;

function unusable(dir: string, cause: unknown): SystemFailure {
  return new SystemFailure(`Cannot use ${dir} as directory for builds`, { cause, retry: true });
}

/**
 * Whether jobs could write below `builds_dir` at all: a disk that failed is mounted for reading only, and what is no directory
 * has no directories in it. Rights are another matter, as jobs may have other ones than the runner.
 * @throws {SystemFailure}
 */
export async function mustBeWritable(buildsDir: string): Promise<void> {
  for (let dir = buildsDir; ; dir = dirname(dir)) {
    try {
      await access(dir, constants.W_OK);
      if ((await lstat(dir)).isFile()) throw Object.assign(new Error("it is a file"), { code: "ENOTDIR" });
      return;
    } catch (cause) {
      const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
      if (code === "EROFS" || code === "ENOTDIR") throw unusable(buildsDir, cause);
      if (code !== "ENOENT" || dir === dirname(dir)) return;
    }
  }
}

/**
 * Make sure that the runner's directory below `builds_dir` is there and that jobs can write to it.
 * @param runnerDir `<builds_dir>/<runner id>`
 * @throws {SystemFailure} it cannot be made or written; names it
 */
export async function openBuildsDir(launch: Launch, runnerDir: string, signal: AbortSignal): Promise<void> {
  const { account } = launch;
  if (account !== null) {
    await openForAccount(launch, account, runnerDir, signal);
    return;
  }
  try {
    await makeDirectories(dirname(runnerDir));
    await makeDirectories(runnerDir, PRIVATE);
    await access(runnerDir, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw unusable(runnerDir, cause);
  }
}

/**
 * The user makes it, and root only where the user may not: the last directory, to give it away, and those above it. Root makes
 * nothing where others could have put a link in its way, and gives away nothing that was there.
 */
async function openForAccount(launch: Launch, account: Account, dir: string, signal: AbortSignal): Promise<void> {
  const found = await lstat(dir).catch(() => null);
  if (found === null) {
    const asUser = await makeDirectoryAsUser(launch, dir, PRIVATE, signal).then(
      () => true,
      () => false,
    );
    if (asUser) return;
    signal.throwIfAborted();
    const { doubt } = await followTrusted(dirname(dir));
    if (doubt !== undefined) {
      throw new SystemFailure(
        `Cannot use ${dir} as directory for builds: user "${account.name}", whom jobs run as, may not make it, and root does ` +
          `not make it where others could change what that name means (${doubt}); make it for that user with install -d -o`,
        { reason: "runner_configuration_error" },
      );
    }
    try {
      await makeDirectories(dirname(dir));
      await mkdir(dir, { mode: PRIVATE });
      await lchown(dir, account.uid, account.gid);
    } catch (cause) {
      throw unusable(dir, cause);
    }
    return;
  }
  if (!found.isDirectory() || found.uid !== account.uid) {
    throw new SystemFailure(
      `Cannot use ${dir} as directory for builds: it is not a directory of user "${account.name}", whom jobs run as; ` +
        `remove it, or give it away with chown -R`,
      { reason: "runner_configuration_error" },
    );
  }
}
