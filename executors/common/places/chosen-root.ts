import { SystemFailure } from "../../../src/errors.ts";
import { cleanPath, contains } from "./posix-paths.ts";

/** The directory that a job chose for its sources (`GIT_CLONE_PATH`) in a container, and whose it may be besides. */

/**
 * `apart`: all of the builds directory is the job's, besides what is mounted in it. `among-others`: there may be files of other
 * jobs, or of the operator's, so that nobody gets what was there before.
 */
export type ChosenRoot = "apart" | "among-others";

/**
 * Whether jobs find nothing of anybody's in the builds directory, wherever they look: what the operator mounts is mounted
 * elsewhere. Where a job's variables or its checkout say where that is, nobody knows.
 */
export function isApart(buildsDir: string, mounts: readonly string[]): boolean {
  const base = cleanPath(buildsDir);
  return mounts.every((path) => {
    if (!path.startsWith("/") || path.includes("$")) return false;
    const at = cleanPath(path);
    return !contains(at, base) && !contains(base, at);
  });
}

export interface ChoosingRoot {
  /** All paths are clean. */
  readonly buildsDir: string;
  /** Where the checkout would be otherwise. */
  readonly own: string;
  /** `<builds_dir>/<runner id>` where jobs of the runner have it in common. */
  readonly runnerDir: string | null;
  /** Where something is mounted. */
  readonly mounts: readonly string[];
}

/** @throws {SystemFailure} it is not the job's to choose */
export function checkChosenRoot(chosen: string, { buildsDir, own, runnerDir, mounts }: ChoosingRoot): void {
  if (chosen === own) return;
  if (runnerDir !== null && contains(runnerDir, chosen)) {
    throw refuseChosenRoot(chosen, `is in "${runnerDir}", where the runner keeps its jobs' directories`);
  }
  const mount = mounts.find(
    (at) => at !== buildsDir && contains(buildsDir, at) && (contains(at, chosen) || contains(chosen, at)),
  );
  if (mount === undefined) return;
  throw refuseChosenRoot(chosen, `${contains(mount, chosen) ? "is in" : "holds"} the volume at "${mount}"`);
}

export function refuseChosenRoot(chosen: string, why: string): SystemFailure {
  return new SystemFailure(`GIT_CLONE_PATH is ${JSON.stringify(chosen.slice(0, 300))}, which ${why}`, {
    reason: "runner_configuration_error",
  });
}
