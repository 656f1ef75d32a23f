import { z } from "zod";
import { optionalText, table } from "../../images/fields.ts";
import { filled, quantity, words } from "./fields.ts";

const mount = {
  name: z.string().min(1, "is empty. Give the volume a name"),
  mount_path: z.string().min(1, "is empty. Say where the volume is mounted"),
  sub_path: optionalText,
};
const readOnly = z.boolean().default(false);
const propagation = words(["None", "HostToContainer", "Bidirectional"]);
const items = table.transform((given) =>
  Object.keys(given).length === 0 ? undefined : Object.entries(given).map(([key, path]) => ({ key, path })),
);

/** One mount and the source of its volume, as the API has it. Names and paths may hold `$NAME`. */
export interface VolumeMount {
  readonly kind: string;
  readonly name: string;
  readonly mountPath: string;
  readonly subPath: string | undefined;
  readonly readOnly: boolean;
  readonly mountPropagation: string | undefined;
  /** `name` is the expanded one. */
  source(name: string): Record<string, unknown>;
}

type Base = { name: string; mount_path: string; sub_path: string | undefined };
function volumeOf(
  kind: string,
  given: Base & { read_only?: boolean; mount_propagation?: string | undefined },
  source: VolumeMount["source"],
): VolumeMount {
  return {
    kind,
    name: given.name,
    mountPath: given.mount_path,
    subPath: given.sub_path,
    readOnly: given.read_only ?? false,
    mountPropagation: given.mount_propagation,
    source,
  };
}

/** `[[runners.kubernetes.volumes.KIND]]` */
export const volumes = z
  .object({
    host_path: z
      .array(
        z
          .object({ ...mount, read_only: readOnly, host_path: optionalText, mount_propagation: propagation })
          .transform((given) =>
            volumeOf("host_path", given, () => ({ hostPath: { path: given.host_path ?? given.mount_path } })),
          ),
      )
      .default([]),
    pvc: z
      .array(
        z
          .object({ ...mount, read_only: readOnly, mount_propagation: propagation })
          .transform((given) => volumeOf("pvc", given, (name) => ({ persistentVolumeClaim: { claimName: name } }))),
      )
      .default([]),
    config_map: z
      .array(
        z
          .object({ ...mount, read_only: readOnly, items })
          .transform((given) =>
            volumeOf("config_map", given, (name) => ({ configMap: filled({ name, items: given.items }) })),
          ),
      )
      .default([]),
    secret: z
      .array(
        z
          .object({ ...mount, read_only: readOnly, items })
          .transform((given) =>
            volumeOf("secret", given, (name) => ({ secret: filled({ secretName: name, items: given.items }) })),
          ),
      )
      .default([]),
    empty_dir: z
      .array(
        z
          .object({ ...mount, medium: words(["Memory"]), size_limit: quantity, mount_propagation: propagation })
          .transform((given) =>
            volumeOf("empty_dir", given, () => ({
              emptyDir: filled({ medium: given.medium, sizeLimit: given.size_limit?.text }) ?? {},
            })),
          ),
      )
      .default([]),
    csi: z
      .array(
        z
          .object({
            ...mount,
            read_only: readOnly,
            driver: z.string().min(1),
            fs_type: optionalText,
            volume_attributes: table,
          })
          .transform((given) =>
            volumeOf("csi", given, () => ({
              csi: filled({
                driver: given.driver,
                fsType: given.fs_type,
                readOnly: given.read_only,
                volumeAttributes: given.volume_attributes,
              }),
            })),
          ),
      )
      .default([]),
    nfs: z
      .array(
        z
          .object({ ...mount, read_only: readOnly, server: z.string().min(1), path: z.string().min(1) })
          .transform((given) =>
            volumeOf("nfs", given, () => ({
              nfs: { server: given.server, path: given.path, readOnly: given.read_only },
            })),
          ),
      )
      .default([]),
  })
  .transform((given): readonly VolumeMount[] => Object.values(given).flat())
  .default([]);
