import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chownSync, closeSync, constants, openSync, rmSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { SystemFailure } from "../../../src/errors.ts";

/** Both ends of one pipe. Whoever takes it closes both. */
export interface Pipe {
  /** Non-blocking. */
  readonly readFd: number;
  /** Blocking, for a child's stdout and stderr. */
  readonly writeFd: number;
}

export interface PipePool {
  /** Start making pipes, if there are none. */
  warm(): void;
  /** @throws {SystemFailure} no pipe can be made */
  take(): Promise<Pipe>;
  /** A pipe that keeps its name and belongs to the runner: whoever takes it renames or removes it. @throws {SystemFailure} */
  takeNamed(): Promise<string>;
  close(): Promise<void>;
}

/** `mkfifo` costs a process, so it makes several at once. */
const BATCH = 16;
const LOW_WATER = 4;

/**
 * Real pipes for scripts. A child's `pipe` stdio is a socket pair: `echo > /dev/stderr` fails on one, and bash takes
 * itself for a remote shell. The names are gone before a script starts; `/dev/stderr` opens the pipe all the same.
 *
 * @param dir private to the runner; named pipes wait here to be taken
 * @param owner of the pipes where scripts run as another user, who may open `/dev/stderr` anew only then
 */
export function createPipePool(dir: string, owner: { uid: number; gid: number } | null): PipePool {
  const ready: string[] = [];
  let filling: Promise<void> | null = null;
  let closed = false;

  const make = async (): Promise<void> => {
    const paths = Array.from({ length: BATCH }, () => join(dir, `pipe-${randomUUID()}`));
    try {
      await promisify(execFile)("mkfifo", ["-m", "600", ...paths]);
    } catch (cause) {
      for (const path of paths) rmSync(path, { force: true });
      throw new SystemFailure(`Cannot make pipes in ${dir} with mkfifo`, { cause, retry: true });
    }
    ready.push(...paths);
  };
  /** One `mkfifo` at a time; who waits for it hears of its failure. */
  const fill = (): Promise<void> => {
    filling ??= make().finally(() => {
      filling = null;
    });
    return filling;
  };
  const warm = (): void => {
    // A failure here comes back in `take`, which tries again.
    if (!closed && ready.length < LOW_WATER) fill().catch(() => {});
  };

  const open = (path: string): Pipe => {
    let readFd: number | undefined;
    try {
      if (owner !== null) chownSync(path, owner.uid, owner.gid);
      readFd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
      return { readFd, writeFd: openSync(path, constants.O_WRONLY) };
    } catch (cause) {
      if (readFd !== undefined) closeSync(readFd);
      throw new SystemFailure(`Cannot open the pipe ${path}`, { cause, retry: true });
    } finally {
      rmSync(path, { force: true });
    }
  };

  const takeNamed = async (): Promise<string> => {
    for (;;) {
      const path = ready.shift();
      if (path !== undefined) {
        warm();
        return path;
      }
      await fill();
    }
  };

  return {
    warm,
    takeNamed,
    take: async () => open(await takeNamed()),
    close: async () => {
      closed = true;
      await filling?.catch(() => {});
      for (const path of ready.splice(0)) unlinkSync(path);
    },
  };
}
