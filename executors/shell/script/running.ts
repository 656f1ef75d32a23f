import type { Exit } from "../../../src/executor/environment.ts";
import type { Argv } from "../../../src/shell.ts";
import type { Forwarding } from "../../common/processes/forward.ts";
import type { Cgroup } from "../processes/cgroup.ts";

/** What is started for a script, whichever way. */
export interface ShellCall {
  readonly argv: Argv;
  readonly environment: NodeJS.ProcessEnv;
  readonly cgroup: Cgroup | null;
  /** Descriptor that the script is read from; the caller closes it. */
  readonly input: number;
}

export interface Leader {
  readonly pid: number;
  readonly startedAt: number;
  /** It had ended when it was found: its number may be another's by now. */
  readonly endedBy?: null;
}

/** A script's shell that runs. */
export interface RunningScript {
  readonly reader: Forwarding;
  /** The shell, the founder of its session; `null`: it is not known. */
  readonly leader: Promise<Leader | null>;
  /** When the start began, on the process table's clock: nothing of the script is older. */
  readonly since: number;
  /** `null`: how it ended will never be known. Never rejects. */
  readonly exited: Promise<Exit | null>;
  /** What may be on its way at the shell's end, where that is more than a pipe holds. */
  readonly capacityBytes?: number;
  /** Why its end is not known. */
  lost(): string;
  /** Let go of it, at its end or after it was ended. */
  close(): Promise<void>;
  /** Leave it to another process, as it is. Absent: it needs this one. */
  leave?(): void;
}
