/** One process of this host, as it was when it was looked at. Zombies are none. */
export interface Process {
  readonly pid: number;
  readonly parent: number;
  /** Process group, session: the pid of who founded it. 0 where unknown. */
  readonly group: number;
  readonly session: number;
  /** When it started, in whatever unit the host counts: with `pid` it names a process for good, and it orders them. */
  readonly startedAt: number;
  /** The program's name, printable. Never its arguments: they may be secret. */
  readonly name: string;
}

/** How this host shows its processes. */
export interface ProcessTable {
  /**
   * All processes at some moment after the call. Calls at the same time share the work.
   * @param since those that started earlier may be left out
   */
  list(since?: number): Promise<readonly Process[]>;
  /** `null`: there is none, or only its zombie. */
  find(pid: number): Process | null;
  /**
   * Those of `processes` that were started with `entry` (`NAME=value`) in their environment, as far as we may look.
   * @param uid only that account's: what others have in theirs is their business, and may be made to keep us busy. `null`: any
   */
  marked(processes: readonly Process[], entry: string, uid: number | null): Promise<readonly Process[]>;
  /** Nothing that starts after the call has an earlier `startedAt` than this. */
  now(): number;
  /** Nothing that starts before the call has a later `startedAt` than this. */
  byNow(): number;
  /** Changes with each start of the host; empty where unknown. */
  readonly bootId: string;
}
