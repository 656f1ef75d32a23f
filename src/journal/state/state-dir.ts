import { chmod, mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError, describeError } from "../../errors.ts";
import { removeTree } from "../../files/remove-tree.ts";
import type { Log } from "../../log.ts";
import { type ClaimTiming, claimDirectory } from "./claim.ts";

/** The runner's own directory, held by this process alone. All paths are absolute if `path` was. */
export interface StateDir {
  readonly path: string;
  /** One directory per accepted job. */
  readonly jobsDir: string;
  /** What could not be read at start, kept for a person to look at. */
  readonly corruptDir: string;
  /** Private (0700), empty at start: what need not outlive the process. */
  readonly scratchDir: string;
  /** Changes with each start of the machine; empty where the platform does not tell. */
  readonly boot: string;
  /** Let another process have it. */
  close(): Promise<void>;
}

export interface StateDirOptions {
  readonly path: string;
  readonly log: Log;
  readonly timing?: Partial<ClaimTiming>;
}

/**
 * Make (0700) or take over the state directory and empty its scratch space.
 * @throws {ConfigError} it is in use by another process, or cannot be made or written
 */
export async function openStateDir({ path, log, timing }: StateDirOptions, signal: AbortSignal): Promise<StateDir> {
  const jobsDir = join(path, "jobs");
  const corruptDir = join(path, "corrupt");
  const scratchDir = join(path, "scratch");
  const usable = async <T>(work: Promise<T>): Promise<T> =>
    await work.catch((cause: unknown) => {
      if (cause instanceof ConfigError || signal.aborted) throw cause;
      const why = describeError(cause);
      throw new ConfigError(`state_dir ${path} cannot be used: ${why}; make it writable, or set state_dir`, { cause });
    });

  await usable(makePrivate(path, { own: false }));
  const claim = await usable(claimDirectory(join(path, "lock"), `state_dir ${path}`, signal, timing));
  try {
    for (const dir of [jobsDir, corruptDir, scratchDir]) await usable(makePrivate(dir, { own: true }));
    await empty(scratchDir, log);
  } catch (error) {
    await claim.release();
    throw error;
  }
  return { path, jobsDir, corruptDir, scratchDir, boot: claim.identity.boot, close: () => claim.release() };
}

/** `own`: nobody but the runner has business there; the state directory itself may be opened by its operator. */
async function makePrivate(dir: string, { own }: { own: boolean }): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const { mode } = await stat(dir);
  const wanted = own ? 0o700 : mode & 0o755;
  if (process.platform !== "win32" && (mode & 0o777) !== (wanted & 0o777)) await chmod(dir, wanted & 0o777);
}

async function empty(dir: string, log: Log): Promise<void> {
  for (const name of await readdir(dir)) {
    await removeTree(join(dir, name)).catch((error: unknown) => {
      log.warn(`${join(dir, name)} was left by an earlier run and cannot be removed`, {
        problem: describeError(error),
      });
    });
  }
}
