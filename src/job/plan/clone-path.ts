import { posix, win32 } from "node:path";
import { SystemFailure } from "../../errors.ts";

export interface ClonePathRequest {
  /** `GIT_CLONE_PATH`, expanded where the job's place is known. */
  readonly wanted: string | undefined;
  readonly buildsDir: string;
  /** `[runners.custom_build_dir]`; absent: nobody may choose, and nothing fails for it. */
  readonly enabled: boolean | undefined;
  readonly dialect: "alloy" | "gitlab";
}

/**
 * The directory that a job wants its sources in; `null`: it leaves that to the runner. Compared in cleaned segments: `/builds/..a`
 * is inside of `/builds`, `/builds/../a` is not.
 * @throws {SystemFailure} it may not choose, or chose a directory that is not inside of the builds directory
 */
export function clonePath({ wanted, buildsDir, enabled, dialect }: ClonePathRequest): string | null {
  const text = wanted?.trim() ?? "";
  if (text === "") return null;
  if (enabled !== true) {
    // AlloyCI's jobs have been told in a warning, since ever.
    if (enabled === undefined || dialect === "alloy") return null;
    throw refusal(
      `GIT_CLONE_PATH is set, and this runner lets no job choose its directory: set enabled = true in [runners.custom_build_dir]`,
    );
  }
  const windows = /^(?:[A-Za-z]:[\\/]|\\\\)/.test(buildsDir);
  const { normalize, isAbsolute, sep } = windows ? win32 : posix;
  const clean = (path: string): string => normalize(path).replace(/(?<=.)[\\/]+$/, "");
  const [base, path] = [clean(buildsDir), clean(text)];
  const same = (one: string): string => (windows ? one.toLowerCase() : one);
  const inside = isAbsolute(path) && same(path).startsWith(same(base === sep ? sep : base + sep));
  if (!inside || /[\0\r\n]/.test(path)) {
    throw refusal(
      `GIT_CLONE_PATH is ${JSON.stringify(text.slice(0, 300))}, which is no directory inside of the builds directory ${JSON.stringify(base)}`,
    );
  }
  return path;
}

function refusal(message: string): SystemFailure {
  return new SystemFailure(message, { reason: "runner_configuration_error" });
}
