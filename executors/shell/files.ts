import type { Workspace } from "../../src/workspace.ts";
import { listFiles } from "./files-list.ts";
import { packFiles } from "./files-pack.ts";
import { filesThroughProcess } from "./files-process.ts";
import { unpackFiles } from "./files-unpack.ts";
import { listUntracked } from "./files-untracked.ts";
import type { Launch } from "./launch.ts";
import type { Places } from "./places.ts";

export interface FilesHost {
  readonly launch: Launch;
  /** `NAME=value` in the environment of what is started for the job. */
  readonly mark: string;
  /** Starts this program again. */
  readonly ownProgram: readonly [string, ...string[]];
}

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
  };
}
