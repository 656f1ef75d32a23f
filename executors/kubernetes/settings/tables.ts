import { z } from "zod";
import { optionalText, table, texts } from "../../images/fields.ts";
import { filled, id, maybe, quantity, words } from "./fields.ts";

/** Tables below `[runners.kubernetes]` that become parts of a pod as they are: their outputs are named as the API names them. */

const profile = z
  .object({ type: words(["RuntimeDefault", "Localhost", "Unconfined"]), localhost_profile: optionalText })
  .superRefine(({ type, localhost_profile }, context) => {
    if ((type === "Localhost") === (localhost_profile !== undefined)) return;
    context.addIssue({
      code: "custom",
      path: ["localhost_profile"],
      message: 'belongs to the type "Localhost", and is needed there',
    });
  })
  .transform((given) => filled({ type: given.type, localhostProfile: given.localhost_profile }))
  .optional();

const seLinux = optionalText.transform((type) => (type === undefined ? undefined : { type }));
const shared = {
  run_as_user: id,
  run_as_group: id,
  run_as_non_root: maybe,
  selinux_type: seLinux,
  seccomp_profile: profile,
  app_armor_profile: profile,
};

export const podSecurityContext = z
  .object({ ...shared, fs_group: id, supplemental_groups: z.array(z.number().int().min(0)).optional() })
  .transform((given) =>
    filled({
      runAsUser: given.run_as_user,
      runAsGroup: given.run_as_group,
      runAsNonRoot: given.run_as_non_root,
      fsGroup: given.fs_group,
      supplementalGroups: given.supplemental_groups,
      seLinuxOptions: given.selinux_type,
      seccompProfile: given.seccomp_profile,
      appArmorProfile: given.app_armor_profile,
    }),
  )
  .optional();

export const containerSecurityContext = z
  .object({
    ...shared,
    capabilities: z
      .object({ add: z.array(z.string()).optional(), drop: z.array(z.string()).optional() })
      .transform((given) => filled(given))
      .optional(),
    privileged: maybe,
    allow_privilege_escalation: maybe,
    read_only_root_filesystem: maybe,
    proc_mount: words(["Default", "Unmasked"]),
  })
  .transform((given) => ({
    runAsUser: given.run_as_user,
    runAsGroup: given.run_as_group,
    runAsNonRoot: given.run_as_non_root,
    seLinuxOptions: given.selinux_type,
    seccompProfile: given.seccomp_profile,
    appArmorProfile: given.app_armor_profile,
    capabilities: given.capabilities,
    privileged: given.privileged,
    allowPrivilegeEscalation: given.allow_privilege_escalation,
    readOnlyRootFilesystem: given.read_only_root_filesystem,
    procMount: given.proc_mount,
  }))
  .optional();

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

const expression = z
  .object({
    key: z.string(),
    operator: words(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]),
    values: z.array(z.string()).optional(),
  })
  .transform((given) => filled(given));
const term = z
  .object({ match_expressions: z.array(expression).optional(), match_fields: z.array(expression).optional() })
  .transform((given) => filled({ matchExpressions: given.match_expressions, matchFields: given.match_fields }));
const selector = z
  .object({
    match_labels: z.record(z.string(), z.string()).optional(),
    match_expressions: z.array(expression).optional(),
  })
  .transform((given) => filled({ matchLabels: given.match_labels, matchExpressions: given.match_expressions }) ?? {})
  .optional();
const podTerm = z
  .object({
    label_selector: selector,
    namespaces: z.array(z.string()).optional(),
    topology_key: z.string().min(1, "is empty. Name a label of nodes"),
    namespace_selector: selector,
    match_label_keys: z.array(z.string()).optional(),
    mismatch_label_keys: z.array(z.string()).optional(),
  })
  .transform((given) =>
    filled({
      labelSelector: given.label_selector,
      namespaces: given.namespaces,
      topologyKey: given.topology_key,
      namespaceSelector: given.namespace_selector,
      matchLabelKeys: given.match_label_keys,
      mismatchLabelKeys: given.mismatch_label_keys,
    }),
  );
const weight = z.number().int().min(1).max(100);
const podAffinity = z
  .object({
    required_during_scheduling_ignored_during_execution: z.array(podTerm).optional(),
    preferred_during_scheduling_ignored_during_execution: z
      .array(
        z
          .object({ weight, pod_affinity_term: podTerm })
          .transform((given) => ({ weight: given.weight, podAffinityTerm: given.pod_affinity_term })),
      )
      .optional(),
  })
  .transform((given) =>
    filled({
      requiredDuringSchedulingIgnoredDuringExecution: given.required_during_scheduling_ignored_during_execution,
      preferredDuringSchedulingIgnoredDuringExecution: given.preferred_during_scheduling_ignored_during_execution,
    }),
  )
  .optional();

export const affinity = z
  .object({
    node_affinity: z
      .object({
        required_during_scheduling_ignored_during_execution: z
          .object({ node_selector_terms: z.array(term) })
          .transform((given) => ({ nodeSelectorTerms: given.node_selector_terms }))
          .optional(),
        preferred_during_scheduling_ignored_during_execution: z
          .array(z.object({ weight, preference: term }))
          .optional(),
      })
      .transform((given) =>
        filled({
          requiredDuringSchedulingIgnoredDuringExecution: given.required_during_scheduling_ignored_during_execution,
          preferredDuringSchedulingIgnoredDuringExecution: given.preferred_during_scheduling_ignored_during_execution,
        }),
      )
      .optional(),
    pod_affinity: podAffinity,
    pod_anti_affinity: podAffinity,
  })
  .transform((given) =>
    filled({
      nodeAffinity: given.node_affinity,
      podAffinity: given.pod_affinity,
      podAntiAffinity: given.pod_anti_affinity,
    }),
  )
  .optional();

const handler = z
  .object({
    exec: z.object({ command: texts }).optional(),
    http_get: z
      .object({
        host: optionalText,
        http_headers: z.array(z.object({ name: z.string(), value: z.string() })).optional(),
        path: optionalText,
        port: z.number().int().min(1).max(65_535),
        scheme: optionalText,
      })
      .transform((given) =>
        filled({
          host: given.host,
          httpHeaders: given.http_headers,
          path: given.path,
          port: given.port,
          scheme: given.scheme,
        }),
      )
      .optional(),
    tcp_socket: z
      .object({ host: optionalText, port: z.number().int().min(1).max(65_535) })
      .transform((given) => filled(given))
      .optional(),
  })
  .refine((given) => Object.values(given).filter((one) => one !== undefined).length === 1, {
    message: "needs exactly one of exec, http_get and tcp_socket",
  })
  .transform((given) => filled({ exec: given.exec, httpGet: given.http_get, tcpSocket: given.tcp_socket }))
  .optional();
export const lifecycle = z
  .object({ post_start: handler, pre_stop: handler })
  .transform((given) => filled({ postStart: given.post_start, preStop: given.pre_stop }))
  .optional();

export const hostAliases = z
  .array(z.object({ ip: z.string().min(1), hostnames: z.array(z.string()).default([]) }))
  .default([]);
export const dnsConfig = z
  .object({
    nameservers: z.array(z.string()).optional(),
    searches: z.array(z.string()).optional(),
    options: z
      .array(z.object({ name: z.string(), value: optionalText }).transform((given) => filled(given)))
      .optional(),
  })
  .transform((given) => filled(given))
  .optional();

/** A change to the finished pod's `spec`. */
export const podSpec = z
  .array(
    z.object({
      name: optionalText,
      patch: optionalText,
      patch_path: optionalText,
      patch_type: z.enum(["strategic", "merge", "json"]).default("strategic"),
    }),
  )
  .superRefine((given, context) => {
    for (const [index, each] of given.entries()) {
      if ((each.patch === undefined) === (each.patch_path === undefined)) {
        context.addIssue({ code: "custom", path: [index], message: "needs one of patch and patch_path" });
      }
    }
  })
  .default([]);
