import { createHash } from "node:crypto";
import { SystemFailure } from "../../../src/errors.ts";
import type { PrepareRequest } from "../../../src/executor/prepare.ts";
import { type ChosenRoot, checkChosenRoot, isApart } from "../../common/places/chosen-root.ts";
import { cleanPath, contains } from "../../common/places/posix-paths.ts";
import { slotName } from "../../common/places/slot-name.ts";
import type { DockerSettings } from "../settings/settings.ts";

/** Where one job works, as its containers see it. All absolute. */
export interface Places {
  /** `CI_BUILDS_DIR` */
  readonly buildsDir: string;
  /** The checkout. */
  readonly root: string;
  /** A volume of the job's own, outside the builds directory, which services see. */
  readonly tmpDir: string;
  /** The builds directory is one of the host's, and so everybody's. */
  readonly shared: boolean;
  /** `null`: the job did not choose where its checkout is. */
  readonly chosen: ChosenRoot | null;
}

export const DEFAULT_BUILDS_DIR = "/builds";

export interface PlacesOptions {
  readonly buildsDir: string;
  readonly settings: Pick<DockerSettings, "volumes" | "tmpfs" | "volumesFrom">;
  readonly request: Pick<PrepareRequest, "runnerId" | "projectPath" | "trust" | "chosenRoot" | "expand">;
  readonly slot: number;
}

/** The same for all jobs, so that what names it can be cached; no image and no operator has it. */
const TMP_DIR = "/alloy-runner/tmp";

/** `<builds_dir>/group/project` in a volume of the project's own; on a directory of the host with runner and slot in between. */
export function choosePlaces({ buildsDir, settings, request, slot }: PlacesOptions): Places {
  const base = cleanPath(buildsDir);
  if (base === "/") {
    throw new SystemFailure(`builds_dir is "${buildsDir}": it must be a directory of its own, such as /builds`, {
      reason: "runner_configuration_error",
    });
  }
  if (contains(TMP_DIR, base) || contains(base, TMP_DIR)) {
    throw new SystemFailure(`builds_dir is "${buildsDir}", and ${TMP_DIR} is the runner's own: choose another path`, {
      reason: "runner_configuration_error",
    });
  }
  const covering = Object.keys(settings.tmpfs).find((path) => contains(cleanPath(path), base));
  if (covering !== undefined) {
    throw new SystemFailure(
      `tmpfs in [runners.docker] covers builds_dir ${base} with ${covering}, which the containers of a job do not share: choose another path`,
      { reason: "runner_configuration_error" },
    );
  }
  const { runnerId, projectPath, trust, expand } = request;
  const mounts = settings.volumes.map(({ source, target }) => ({ isOwn: source === null, target: expand(target) }));
  // Others lie in the checkout, wherever that is.
  const fixed = mounts.filter(({ target }) => target.startsWith("/"));
  const shared = fixed.some(({ isOwn, target }) => !isOwn && contains(cleanPath(target), base));
  const runnerDir = `${base}/${runnerId}`;
  const own = shared ? `${runnerDir}/${slotName(slot, trust)}/${projectPath}` : `${base}/${projectPath}`;
  const root = request.chosenRoot?.({ buildsDir: base, projectSlot: slot }) ?? own;
  const places = { buildsDir: base, root, tmpDir: TMP_DIR, shared };
  if (root === own) return { ...places, chosen: null };
  checkChosenRoot(root, {
    buildsDir: base,
    own,
    runnerDir: shared ? runnerDir : null,
    mounts: fixed.map(({ target }) => cleanPath(target)),
  });
  // Where other containers' volumes are nobody knows before the job's is there.
  return { ...places, chosen: shared || settings.volumesFrom.length > 0 ? "among-others" : "apart" };
}

/** Whether the operator's volumes leave the builds directory to the project and its slot. */
export function buildDirsAreApart(
  { volumes, volumesFrom }: Pick<DockerSettings, "volumes" | "volumesFrom">,
  buildsDir: string = DEFAULT_BUILDS_DIR,
): boolean {
  const mounts = volumes.flatMap(({ source, target }) => (source === null ? [] : target));
  return volumesFrom.length === 0 && isApart(buildsDir, mounts);
}

/** `runner-0a1b2c3d-project-7-concurrent-0`: the name that users know, for hosts, containers and volumes. */
export function uniqueName(runnerId: string, projectId: string, slot: number): string {
  return `runner-${runnerId}-project-${projectId.replace(/[^\w.-]/g, "-").slice(0, 20)}-concurrent-${slot}`;
}

export function md5(text: string): string {
  return createHash("md5").update(text).digest("hex");
}
