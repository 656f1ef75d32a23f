import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import { cleanPath } from "../../common/places/posix-paths.ts";
import { isDnsLabel } from "../settings/fields.ts";
import { type KubernetesSettings, TABLE } from "../settings/settings.ts";
import type { Patch } from "./patch.ts";
import type { PodMount } from "./pod.ts";

/** Parts of a pod that the entry names, with a job's variables in them and read from where they are. */

/** @throws {SystemFailure} a name or a path is none once its variables are in it */
export function mountsOf({ volumes }: KubernetesSettings, expand: (text: string) => string): PodMount[] {
  return volumes.map(({ source, ...mount }) => {
    const name = expand(mount.name);
    const mountPath = expand(mount.mountPath);
    const subPath = mount.subPath === undefined ? undefined : expand(mount.subPath);
    const wrong = !isDnsLabel(name)
      ? `has a name that the cluster does not take (${JSON.stringify(name.slice(0, 100))})`
      : !mountPath.startsWith("/")
        ? `is mounted on ${JSON.stringify(mountPath.slice(0, 100))}, which is no absolute path`
        : subPath !== undefined && (subPath.startsWith("/") || subPath.split("/").includes(".."))
          ? `has a sub_path that leaves it (${JSON.stringify(subPath.slice(0, 100))})`
          : null;
    if (wrong !== null) {
      throw new SystemFailure(`The volume "${mount.name}" (${mount.kind}) in [${TABLE}] ${wrong}`, {
        reason: "runner_configuration_error",
      });
    }
    return { ...mount, name, mountPath: cleanPath(mountPath), subPath, source: source(name) };
  });
}

/** @throws {SystemFailure} the file of one cannot be read */
export async function patchesOf({ podSpec }: KubernetesSettings, working: string): Promise<Patch[]> {
  const read = podSpec.map(async ({ name, patch, patch_path, patch_type }, index): Promise<Patch> => {
    const called = JSON.stringify(name ?? `#${index + 1}`);
    if (patch !== undefined) return { name: called, text: patch, type: patch_type };
    const path = resolve(working, patch_path ?? "");
    try {
      return { name: called, text: await readFile(path, "utf8"), type: patch_type };
    } catch (cause) {
      throw new SystemFailure(
        `patch_path of the patch ${called} in [${TABLE}] cannot be read: ${describeError(cause)}`,
        {
          reason: "runner_configuration_error",
          cause,
        },
      );
    }
  });
  return await Promise.all(read);
}
