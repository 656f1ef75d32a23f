import { createHash } from "node:crypto";
import { posix } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import type { PrepareRequest } from "../../../src/executor.ts";
import { slotName } from "../../common/slot-name.ts";
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
}

export interface PlacesOptions {
  readonly buildsDir: string;
  readonly settings: Pick<DockerSettings, "volumes" | "tmpfs">;
  readonly request: Pick<PrepareRequest, "runnerId" | "projectPath" | "trust" | "chosenRoot">;
  readonly slot: number;
}

/** The same for all jobs, so that what names it can be cached; no image and no operator has it. */
const TMP_DIR = "/alloy-runner/tmp";

/** Whether one path is the other, or lies inside it. */
export function contains(outer: string, inner: string): boolean {
  return inner === outer || inner.startsWith(outer === "/" ? outer : `${outer}/`);
}

/** Without doubled or trailing slashes. */
export function cleanPath(path: string): string {
  const clean = posix.normalize(posix.join("/", path));
  return clean.length > 1 && clean.endsWith("/") ? clean.slice(0, -1) : clean;
}

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
  const shared = settings.volumes.some(({ source, target }) => source !== null && contains(cleanPath(target), base));
  const { runnerId, projectPath, trust } = request;
  const chosen = request.chosenRoot?.({ buildsDir: base, projectSlot: slot }) ?? null;
  if (chosen !== null) return { buildsDir: base, root: chosen, tmpDir: TMP_DIR, shared };
  const root = shared ? `${base}/${runnerId}/${slotName(slot, trust)}/${projectPath}` : `${base}/${projectPath}`;
  return { buildsDir: base, root, tmpDir: TMP_DIR, shared };
}

/** `runner-0a1b2c3d-project-7-concurrent-0`: the name that users know, for hosts, containers and volumes. */
export function uniqueName(runnerId: string, projectId: string, slot: number): string {
  return `runner-${runnerId}-project-${projectId.replace(/[^\w.-]/g, "-").slice(0, 20)}-concurrent-${slot}`;
}

export function md5(text: string): string {
  return createHash("md5").update(text).digest("hex");
}
