import { SystemFailure } from "../../../src/errors.ts";
import type { PrepareRequest } from "../../../src/executor/prepare.ts";
import { type ChosenRoot, checkChosenRoot, isApart } from "../../common/places/chosen-root.ts";
import { cleanPath, contains } from "../../common/places/posix-paths.ts";
import { slotName } from "../../common/places/slot-name.ts";
import type { KubernetesSettings } from "../settings/settings.ts";

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
  /** `null`: the job did not choose where its checkout is. */
  readonly chosen: ChosenRoot | null;
}

/** Mount point of the volume that is the runner's own. */
export const RUN_DIR = "/alloy-runner";
export const DEFAULT_BUILDS_DIR = "/builds";

export interface PlacesOptions {
  readonly buildsDir: string;
  readonly mounts: readonly { readonly mountPath: string; readonly kind: string; readonly readOnly: boolean }[];
  readonly request: Pick<PrepareRequest, "runnerId" | "projectPath" | "trust" | "jobKey" | "chosenRoot">;
  /** `pod_spec` may mount more. */
  readonly patched: boolean;
  /** Number of this job among those of its project that run now. */
  readonly slot: number;
}

export function choosePlaces({
  buildsDir,
  mounts,
  patched,
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
  const runnerDir = `${base}/${runnerId}`;
  const own = shared ? `${runnerDir}/${slotName(slot, trust)}/${projectPath}` : `${base}/${projectPath}`;
  const root = request.chosenRoot?.({ buildsDir: base, projectSlot: slot }) ?? own;
  checkChosenRoot(root, {
    buildsDir: base,
    own,
    runnerDir: shared ? runnerDir : null,
    mounts: mounts.map(({ mountPath }) => cleanPath(mountPath)),
  });
  return {
    buildsDir: base,
    root,
    chosen: root === own ? null : shared || patched ? "among-others" : "apart",
    tmpDir: `${RUN_DIR}/tmp`,
    scriptsDir: `${RUN_DIR}/${jobKey}`,
    shared,
    covered: covering !== undefined,
  };
}

/** Whether the operator's volumes leave the builds directory to the job. */
export function buildDirsAreApart(
  { volumes, podSpec }: Pick<KubernetesSettings, "volumes" | "podSpec">,
  buildsDir: string = DEFAULT_BUILDS_DIR,
): boolean {
  const mounts = volumes.flatMap(({ kind, mountPath }) => (kind === "empty_dir" ? [] : mountPath));
  return podSpec.length === 0 && isApart(buildsDir, mounts);
}
