import type { Writable } from "node:stream";
import type { Exit, Script } from "../../src/executor.ts";
import type { RemoteCommands } from "./commands.ts";
import type { RemoteTools } from "./tools.ts";

export interface RemoteScriptHost {
  /**
   * Starts the script, in the environment that `script.runIn` names. `exit` of what it starts must settle soon after the
   * program has ended, also while something it left behind keeps its output open; `stdout` ends when all have closed it.
   * stderr is not used: a script's two outputs come as one.
   */
  readonly scripts: RemoteCommands;
  /** Runs what finds and ends processes: must see those of `scripts` and have the same rights, or more. */
  readonly commands: RemoteCommands;
  /** Of the environment that the script runs in. */
  readonly tools: RemoteTools;
  /** `jobMark(jobKey)` */
  readonly mark: string;
  /** Only for shells that take their script from a file: a directory where it is saved (0600) until the shell has ended. */
  readonly scriptDir: string;
  readonly killLeftovers: boolean;
  readonly killGraceMs: number;
  /** For messages: `container 3f2a… on build-07`. */
  readonly where: string;
}

/** `Environment.run`, whole: start, output, stop, leftovers. */
export async function runRemoteScript(
  _host: RemoteScriptHost,
  _script: Script,
  _output: Writable,
  _signal: AbortSignal,
): Promise<Exit> {
  throw new Error("under way");
}
