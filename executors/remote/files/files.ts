import type { WorkspaceFiles } from "../../../src/workspace.ts";
import type { RemoteCommands } from "../commands.ts";
import type { RemoteTools } from "../tools.ts";
import { listRemote } from "./list.ts";
import { packRemote } from "./pack.ts";
import { unpackRemote } from "./unpack.ts";

export interface RemotePlace {
  /** The checkout, absolute, as `commands` sees it. */
  readonly root: string;
  /** Beside the checkout, the job's own; on the same file system moving is cheap. Made where it is missing. */
  readonly tmpDir: string;
  readonly tools: RemoteTools;
}

/** A job's files, where the only tool is a POSIX shell. Everything is done with the rights that `commands` has. */
export function remoteFiles(commands: RemoteCommands, place: RemotePlace): WorkspaceFiles {
  return {
    list: (select, signal) => listRemote(commands, place, select, signal),
    pack: async (paths, signal) => packRemote(commands, place, paths, signal),
    unpack: (tar, limits, signal) => unpackRemote(commands, place, tar, limits, signal),
  };
}
