import type { RemoteCommands } from "./commands.ts";

/** Programs whose presence is found out. */
export const PROGRAMS = ["bash", "git", "tar", "find", "stat", "setsid", "base64", "ps", "grep", "head", "df"] as const;
export type ProgramName = (typeof PROGRAMS)[number];

/** What there is where a job's files are. */
export interface RemoteTools {
  /** Absolute path of the POSIX shell. */
  readonly sh: string;
  /** Absolute path of bash, if there is one. */
  readonly bash: string | null;
  /** Absolute paths of those programs that are there. */
  readonly programs: ReadonlyMap<ProgramName, string>;
  readonly uid: number;
  readonly gid: number;
  /** Login name; empty where the number has none. */
  readonly user: string;
  /** `$HOME`; empty where it is not set. */
  readonly home: string;
  /** `uname -s` and `uname -m`: `Linux`, `x86_64`. */
  readonly os: string;
  readonly arch: string;
  /** How names, kinds, sizes, modes and times of files are asked for; `null`: not at all. */
  readonly stat: "find -printf" | "stat -c" | "stat -f" | null;
  readonly tar: "gnu" | "bsd" | "busybox" | null;
}

/**
 * One round trip.
 * @throws {SystemFailure} there is no POSIX shell, or what answered is none
 */
export async function probeTools(_commands: RemoteCommands, _signal: AbortSignal): Promise<RemoteTools> {
  throw new Error("under way");
}
