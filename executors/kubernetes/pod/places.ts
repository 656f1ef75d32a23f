import { posix } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import type { PrepareRequest } from "../../../src/executor.ts";
import { slotName } from "../../common/slot-name.ts";

/** Where one job works, as its containers see it. All absolute. */
export interface Places {
  /** `CI_BUILDS_DIR` */
  readonly buildsDir: string;
  /** The checkout. */
  readonly root: string;
  /** The job's own files, in a volume that services do not see. */
  readonly tmpDir: string;
  /** Where output and status of scripts lie. */
  readonly scriptsDir: string;
  /** Whether a configured volume holds the builds directory, so that other jobs may work there, too. */
  readonly shared: boolean;
}

/** Mount point of the volume that is the runner's own. */
export const RUN_DIR = "/alloy-runner";
export const DEFAULT_BUILDS_DIR = "/builds";

/** Whether `inner` is `outer`, or lies inside it. */
function contains(outer: string, inner: string): boolean {
  return inner === outer || inner.startsWith(outer === "/" ? outer : `${outer}/`);
}

export function cleanPath(path: string): string {
  const clean = posix.normalize(posix.join("/", path));
  return clean.length > 1 && clean.endsWith("/") ? clean.slice(0, -1) : clean;
}

export interface PlacesOptions {
  readonly buildsDir: string;
  readonly mounts: readonly { readonly mountPath: string; readonly kind: string; readonly readOnly: boolean }[];
  readonly request: Pick<PrepareRequest, "runnerId" | "projectPath" | "trust" | "jobKey" | "chosenRoot">;
  /** Number of this job among those of its project that run now. */
  readonly slot: number;
}

export function choosePlaces({
  buildsDir,
  mounts,
  request,
  slot,
}: PlacesOptions): Places & { readonly covered: boolean } {
  const base = cleanPath(buildsDir);
  const refuse = (why: string): SystemFailure =>
    new SystemFailure(`builds_dir is "${buildsDir}": ${why}`, { reason: "runner_configuration_error" });
  if (base === "/") throw refuse("it must be a directory of its own, such as /builds");
  if (contains(RUN_DIR, base) || contains(base, RUN_DIR)) throw refuse(`${RUN_DIR} is the runner's own`);
  const inside = mounts.find(({ mountPath }) => contains(RUN_DIR, cleanPath(mountPath)));
  if (inside !== undefined) throw refuse(`a volume is mounted on ${inside.mountPath}, which is the runner's own`);
  const covering = mounts.findLast(({ mountPath }) => contains(cleanPath(mountPath), base));
  if (covering?.readOnly === true) throw refuse(`the volume mounted on ${covering.mountPath} is read-only`);
  const shared = covering !== undefined && covering.kind !== "empty_dir";
  const { runnerId, projectPath, trust, jobKey } = request;
  const chosen = request.chosenRoot?.({ buildsDir: base, projectSlot: slot }) ?? null;
  const own = shared ? `${base}/${runnerId}/${slotName(slot, trust)}/${projectPath}` : `${base}/${projectPath}`;
  return {
    buildsDir: base,
    root: chosen ?? own,
    tmpDir: `${RUN_DIR}/tmp`,
    scriptsDir: `${RUN_DIR}/${jobKey}`,
    shared,
    covered: covering !== undefined,
  };
}
