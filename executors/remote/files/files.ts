import type { WorkspaceFiles } from "../../../src/workspace.ts";
import type { RemoteCommands } from "../commands.ts";
import type { RemotePlace } from "../place.ts";
import { listRemote } from "./list.ts";
import { packRemote } from "./pack.ts";
import { unpackRemote } from "./unpack.ts";

export interface RemoteFilesOptions extends Pick<WorkspaceFiles, "unpacksAtOnce" | "keeping"> {
  /** `keeping` is `contentKeeping`. */
  readonly tellsContents?: boolean;
}

/** A job's files, where the only tool is a POSIX shell. Everything is done with the rights that `commands` has. */
export function remoteFiles(
  commands: RemoteCommands,
  place: RemotePlace,
  { unpacksAtOnce = 1, keeping, tellsContents = false }: RemoteFilesOptions = {},
): WorkspaceFiles {
  return {
    unpacksAtOnce,
    ...(keeping === undefined ? {} : { keeping }),
    list: (select, signal) => listRemote(commands, place, select, signal),
    pack: async (paths, signal) => packRemote(commands, place, paths, signal),
    unpack: (tar, limits, signal) => unpackRemote(commands, { ...place, tellsContents }, tar, limits, signal),
  };
}
