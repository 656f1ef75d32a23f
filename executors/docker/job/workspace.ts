import type { Workspace } from "../../../src/workspace.ts";
import { keepingByContents, type RemoteCommands, type RemoteTools, remoteFiles } from "../../remote/index.ts";
import type { Places } from "../container/places.ts";
import type { Scene } from "./scene.ts";

/** Where files of a job may wait for the next one, and what tells that place from others. */
export interface KeptFilesPlace {
  readonly asideDir: string;
  readonly host: string;
}

/** Where the builds directory is the project's and its slot's, and outlives the job; `null`: it is not. */
export function keptFilesOf({ engine, settings, places, request, unique }: Scene): KeptFilesPlace | null {
  const { level } = request.trust;
  const isKept = (!settings.disableCache || settings.volumeKeep) && level !== "fork";
  if (!isKept || places.shared || places.chosen !== null) return null;
  return { asideDir: `${places.buildsDir}/.alloy-kept`, host: `${engine.hostName} ${unique} ${level}` };
}

interface WorkspaceOptions {
  /** Programs in the helper, as the job's user. */
  readonly commands: RemoteCommands;
  readonly helper: {
    readonly tools: RemoteTools;
    /** `uid:gid` */
    readonly user: string | undefined;
    /** Its image is the operator's choice. */
    readonly trusted: boolean;
  };
  readonly places: Pick<Places, "root" | "tmpDir">;
  readonly keeps: KeptFilesPlace | null;
}

/** The files of a job in its volumes, through a container that has git. */
export function openWorkspace({ commands, helper, places, keeps }: WorkspaceOptions): Workspace {
  const { root, tmpDir } = places;
  const place = { root, tmpDir, tools: helper.tools };
  const uid = helper.user?.split(":")[0] ?? "0";
  // In the job's own container its image's programs would tell what nobody has changed.
  const mayTell = keeps !== null && helper.trusted;
  const keeping = mayTell ? keepingByContents(uid, { commands, place, ...keeps }) : undefined;
  const kept = keeping === undefined ? {} : { keeping, tellsContents: true };
  return { root, tmpDir, ...remoteFiles(commands, place, { unpacksAtOnce: 3, ...kept }) };
}
