import type { WorkspaceFiles } from "../../src/workspace.ts";
import type { RemoteCommands } from "./commands.ts";
import type { RemoteTools } from "./tools.ts";

export interface RemotePlace {
  /** The checkout, absolute, as `commands` sees it. */
  readonly root: string;
  /** Beside the checkout, the job's own; on the same file system moving is cheap. Made where it is missing. */
  readonly tmpDir: string;
  readonly tools: RemoteTools;
}

/** A job's files, where the only tool is a POSIX shell. Everything is done with the rights that `commands` has. */
export function remoteFiles(_commands: RemoteCommands, _place: RemotePlace): WorkspaceFiles {
  throw new Error("under way");
}
