import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync, statfsSync, unlinkSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import type { Note } from "../../../src/executor/prepare.ts";
import { OUTPUT_FORMAT, WINDOW_BYTES } from "../../common/durable/files.ts";
import { createPipePool, type PipePool } from "../script/fifo.ts";
import { privateDirectory } from "./private-directory.ts";

/** Room for one script that is to outlive the runner. */
export interface ScriptRoom extends AsyncDisposable {
  /** Its own, empty, for the runner alone. */
  readonly directory: string;
  /** For the trace: where the output waits. */
  readonly where: string;
  /** So much of its output may wait there to be read. */
  readonly windowBytes: number;
  /** Pipes on the same disk. */
  readonly pipes: PipePool;
  /** Its files stay where they are, for another process that goes on with the script. */
  keep(): void;
}

/**
 * Where the files of scripts that outlive the runner are. Output waits there as it was printed, secrets and all, so that it is kept
 * in memory where there is room, and goes with the machine's next start as the scripts do.
 */
export interface RunRooms {
  /** @throws {SystemFailure} no directory can be made */
  enter(jobKey: string, script: string): ScriptRoom;
  /** The room of a script that was begun before. @throws {SystemFailure} it is none of this job's */
  reenter(jobKey: string, place: Note): ScriptRoom & { readonly script: string };
  /** A script of the job has this name already. */
  has(jobKey: string, script: string): boolean;
  /** Remove what a job has left. */
  clear(jobKey: string): Promise<void>;
  close(): Promise<void>;
}

export interface RunRoomsOptions {
  readonly stateDir: string;
  /** A file system in memory, if it is one. */
  readonly memory: string;
  /** Whom scripts run as, if not as the runner. */
  readonly owner: { readonly uid: number; readonly gid: number } | null;
  /** Whether the runner still knows a job: what is left of others is removed. Default: it knows all. */
  readonly hasJob?: ((jobKey: string) => boolean) | undefined;
  /** Called with each job that the runner does not know any more, before what is left of it is removed. */
  readonly onForgotten?: (jobKey: string) => void;
}

/** What is in memory on most machines, and gone with their next start. */
export const MEMORY = "/run";

const TMPFS = 0x01021994;
const MIB = 1024 * 1024;
/** With less than this, memory is left to others. */
const LEAST_FREE_BYTES = 32 * MIB;
/** Of what is free, scripts of this runner may fill so much. */
const SHARE = 1 / 4;
const LARGEST_WINDOW_BYTES = 16 * MIB;
const SMALLEST_WINDOW_BYTES = MIB;
/** Of what is left of the share, one script gets so much, so that there is always some for the next. */
const PART = 1 / 4;

const FAILED = "Cannot make a directory for scripts that outlive the runner";

/** Bytes that scripts may fill there; 0: it is not in memory, or not ours, or short of room. */
function shareOf(memory: string): number {
  if (process.geteuid?.() !== 0) return 0;
  try {
    const { type, bavail, bsize } = statfsSync(memory);
    const free = bavail * bsize;
    return type === TMPFS && free >= LEAST_FREE_BYTES ? free * SHARE : 0;
  } catch {
    return 0;
  }
}

/** Where the rooms of one `state_dir` may be; the first is in memory. */
export function runPlaces(stateDir: string, memory: string): readonly [inMemory: string, onDisk: string] {
  const name = createHash("sha256").update(stateDir).digest("hex").slice(0, 8);
  return [join(memory, "alloy-runner", name), join(stateDir, "run")];
}

/** Places of this process's own state directories: no other process has these. */
const swept = new Set<string>();

/**
 * Pipes that a runner which was killed had made and not used yet, and what it had not removed yet of jobs that have been reported
 * since.
 */
function sweep(
  place: string,
  { hasJob = () => true, onForgotten }: Pick<RunRoomsOptions, "hasJob" | "onForgotten">,
): void {
  if (swept.has(place)) return;
  swept.add(place);
  if (!existsSync(place)) return;
  for (const name of readdirSync(place)) {
    const isPipe = name.startsWith("pipe-");
    if (!isPipe && hasJob(name)) continue;
    if (!isPipe) onForgotten?.(name);
    rmSync(join(place, name), { recursive: true, force: true });
  }
}

/** Remove a directory that has only files. False: there is something else in it. */
function removeFlat(directory: string): boolean {
  try {
    for (const name of readdirSync(directory)) unlinkSync(join(directory, name));
    rmdirSync(directory);
    return true;
  } catch {
    return false;
  }
}

export function openRunRooms({ stateDir, memory, owner, ...known }: RunRoomsOptions): RunRooms {
  const [inMemory, onDisk] = runPlaces(stateDir, memory);
  const pools = new Map<string, PipePool>();
  let left: number | null = null;

  const poolOf = (place: string): PipePool => {
    // Before this process has any.
    sweep(place, known);
    const pool = pools.get(place) ?? createPipePool(place, owner);
    pools.set(place, pool);
    return pool;
  };
  const makeJob = (place: string, jobKey: string): void => {
    privateDirectory([place], FAILED);
    const job = join(place, jobKey);
    mkdirSync(job, { mode: 0o700 });
    writeFileSync(join(job, "v"), `${OUTPUT_FORMAT}\n`, { mode: 0o600 });
  };
  const open = (place: string, jobKey: string, script: string): string => {
    const directory = join(place, jobKey, script);
    try {
      if (!existsSync(join(place, jobKey))) makeJob(place, jobKey);
      mkdirSync(directory, { mode: 0o700 });
      return directory;
    } catch (cause) {
      if (cause instanceof SystemFailure) throw cause;
      throw new SystemFailure(`${FAILED} in ${place}`, { cause, retry: true });
    }
  };

  const leave = async (directory: string): Promise<void> => {
    if (!removeFlat(directory)) await rm(directory, { recursive: true, force: true });
  };

  return {
    has: (jobKey, script) => [inMemory, onDisk].some((place) => existsSync(join(place, jobKey, script))),
    reenter(jobKey, { directory, windowBytes }) {
      const place = [inMemory, onDisk].find(
        (one) => typeof directory === "string" && dirname(directory) === join(one, jobKey),
      );
      if (place === undefined || typeof directory !== "string" || typeof windowBytes !== "number") {
        throw new SystemFailure(`A script of this job cannot be where it is said to be: ${String(directory)}`);
      }
      let isKept = false;
      return {
        keep: () => {
          isKept = true;
        },
        script: basename(directory),
        directory,
        where: place,
        windowBytes,
        pipes: poolOf(place),
        [Symbol.asyncDispose]: async () => {
          if (!isKept) await leave(directory);
        },
      };
    },
    enter(jobKey, script) {
      left ??= shareOf(memory);
      const part = Math.min(LARGEST_WINDOW_BYTES, Math.floor(left * PART));
      const fits = part >= SMALLEST_WINDOW_BYTES;
      const place = fits ? inMemory : onDisk;
      const directory = open(place, jobKey, script);
      const windowBytes = fits ? part : WINDOW_BYTES;
      if (fits) left -= part;
      let isOpen = true;
      return {
        directory,
        where: place,
        windowBytes,
        pipes: poolOf(place),
        keep: () => {
          isOpen = false;
        },
        [Symbol.asyncDispose]: async () => {
          if (!isOpen) return;
          isOpen = false;
          if (fits && left !== null) left += part;
          await leave(directory);
        },
      };
    },
    async clear(jobKey) {
      for (const place of [inMemory, onDisk]) {
        const job = join(place, jobKey);
        if (existsSync(job)) await leave(job);
      }
    },
    async close() {
      for (const [place, pool] of pools) {
        await pool.close();
        try {
          rmdirSync(place);
        } catch {
          // Another entry's jobs have theirs there.
        }
      }
    },
  };
}
