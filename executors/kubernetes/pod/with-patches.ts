import { z } from "zod";
import { ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import { TABLE } from "../settings/settings.ts";
import { containersIn, type Json, type Patch, patched } from "./patch.ts";

/** Fields of a pod's `spec` that jobs depend on. */
const specSchema = z.object({
  restartPolicy: z.string(),
  containers: z.array(
    z.object({ name: z.string(), volumeMounts: z.array(z.object({ mountPath: z.string() })).default([]) }),
  ),
});

/**
 * The pod with the operator's patches.
 * @throws {SystemFailure} they take away what jobs depend on
 * @throws {ScriptFailure} a service of the job would become a container of the operator's, with its mounts and secrets
 */
export function withPatches(manifest: Record<string, unknown>, patches: readonly Patch[]): Record<string, unknown> {
  if (patches.length === 0) return manifest;
  let spec: Json = JSON.parse(JSON.stringify(manifest.spec));
  const services = specSchema.parse(spec).containers.map(({ name }) => name);
  for (const patch of patches) {
    const taken = containersIn(patch).find((name) => !isOwn(name) && services.includes(name));
    if (taken !== undefined) {
      throw new ScriptFailure(
        `A service of the job is called ${taken}, as is a container that the runner's operator adds to each pod (the patch ${patch.name} of pod_spec): give the service another alias`,
      );
    }
    const before = specSchema.parse(spec);
    spec = patched(spec, patch);
    const after = specSchema.safeParse(spec);
    const kept =
      after.success &&
      after.data.restartPolicy === "Never" &&
      before.containers.every(
        (one) =>
          !isOwn(one.name) ||
          after.data.containers.some(
            (other) =>
              other.name === one.name &&
              one.volumeMounts.every((mount) => other.volumeMounts.some((also) => also.mountPath === mount.mountPath)),
          ),
      );
    if (!kept) {
      throw new SystemFailure(
        `The patch ${patch.name} of pod_spec in [${TABLE}] takes away what jobs stand on: the containers build and helper with their volumes, and the restart policy Never`,
        { reason: "runner_configuration_error" },
      );
    }
  }
  return { ...manifest, spec };
}

function isOwn(container: string): boolean {
  return container === "build" || container === "helper";
}
