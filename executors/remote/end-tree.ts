import type { RemoteCommands } from "./commands.ts";

/** One process that was ended, or could not be. */
export interface RemoteProcessName {
  readonly pid: number;
  /** The program's name, printable. Never its arguments: they may be secret. */
  readonly name: string;
}

export interface EndedTree {
  /** All that were there and are gone. */
  readonly ended: readonly RemoteProcessName[];
  /** Those of them that had to be killed. */
  readonly killed: readonly RemoteProcessName[];
  /** Those that are still there. */
  readonly survived: readonly RemoteProcessName[];
}

/** The shell of a script, as it introduced itself. */
export interface Leader {
  readonly pid: number;
  /** When it started, in the place's own unit: with `pid` it names a process for good. */
  readonly startedAt: string;
  /** The process that waits for it and hands on its status. */
  readonly launcher: number;
}

export interface EndTreeOptions {
  /** `jobMark(jobKey)`: stands in the environment of everything the job started. */
  readonly mark: string;
  /** `null`: the mark alone has to do, as after a crash. */
  readonly leader: Leader | null;
  /** From SIGTERM to SIGKILL, milliseconds. */
  readonly graceMs: number;
  /** From SIGKILL until survivors are given up, milliseconds. */
  readonly limitMs: number;
}

/** `NAME=value` for the environment of all that a job starts. */
export function jobMark(jobKey: string): string {
  return `ALLOY_RUNNER_JOB_KEY=${jobKey}.`;
}

/**
 * End all processes of a job, or of one of its scripts: SIGTERM, grace, SIGKILL. Never itself, what it was started by, PID 1, or a stranger.
 * @throws {SystemFailure} it is not known what became of them
 */
export async function endTree(
  _commands: RemoteCommands,
  _options: EndTreeOptions,
  _signal: AbortSignal,
): Promise<EndedTree> {
  throw new Error("under way");
}
