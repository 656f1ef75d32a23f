import { constants } from "node:fs";
import { access, lchown, lstat, mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { SystemFailure } from "../../src/errors.ts";
import type { Account } from "./account.ts";
import type { Launch } from "./launch.ts";
import { makeDirectories } from "./make-directories.ts";
import { makeDirectoryAsUser } from "./remove.ts";

function unusable(dir: string, cause: unknown): SystemFailure {
  return new SystemFailure(`Cannot use ${dir} as directory for builds`, { cause, retry: true });
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
    await makeDirectories(runnerDir);
    await access(runnerDir, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw unusable(runnerDir, cause);
  }
}

/**
 * Root makes at most the last directory and gives away nothing that was there: what is above it may belong to the jobs'
 * user, who could have put a link in its place. So the user tries first, and root only where the user may not.
 */
async function openForAccount(launch: Launch, account: Account, dir: string, signal: AbortSignal): Promise<void> {
  const found = await lstat(dir).catch(() => null);
  if (found === null) {
    const asUser = await makeDirectoryAsUser(launch, dir, signal).then(
      () => true,
      () => false,
    );
    if (asUser) return;
    try {
      await makeDirectories(dirname(dir));
      await mkdir(dir, { mode: 0o755 });
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
