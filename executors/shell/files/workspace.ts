import type { Workspace } from "../../../src/workspace.ts";
import type { Places } from "../places/places.ts";
import { keepingAt } from "./keep.ts";
import { listFiles } from "./list.ts";
import { packFiles } from "./pack.ts";
import { type FilesHost, filesThroughProcess } from "./process.ts";
import { unpackFiles } from "./unpack.ts";
import { listUntracked } from "./untracked.ts";

/**
 * The files of a job on this machine. Where jobs run as another user a second process of this program that has that user's
 * rights does the work: root never opens a path that a job controls.
 */
export function openWorkspace({ root, tmpDir }: Pick<Places, "root" | "tmpDir">, host: FilesHost): Workspace {
  const { launch } = host;
  if (launch.account !== null) return { root, tmpDir, ...filesThroughProcess({ root, tmpDir }, host) };
  return {
    root,
    tmpDir,
    list: (select, signal) => listFiles({ root, untracked: (its) => listUntracked(root, launch, its) }, select, signal),
    pack: async (paths, signal) => packFiles(root, paths, signal),
    unpack: (tar, limits, signal) => unpackFiles({ root, tmpDir }, tar, limits, signal),
    unpacksAtOnce: 3,
    ...(host.keepsFiles ? { keeping: keepingAt({ root, tmpDir }) } : {}),
  };
}
