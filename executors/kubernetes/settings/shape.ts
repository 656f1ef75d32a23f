import { z } from "zod";
import {
  natural,
  optionalText,
  policies,
  service,
  servicesEnvironmentExclude,
  table,
  texts,
} from "../../images/fields.ts";
import { affinity } from "./affinity.ts";
import {
  dnsLabel,
  dnsSubdomain,
  duration,
  labelled,
  maybe,
  numericIds,
  pattern,
  positiveOr,
  quantity,
  words,
} from "./fields.ts";
import { containerSecurityContext, podSecurityContext } from "./security-contexts.ts";
import { dnsConfig, hostAliases, lifecycle, podSpec } from "./tables.ts";
import { type Toleration, tolerationOf } from "./tolerations.ts";
import { volumes } from "./volumes.ts";

const tolerations = table.transform((given, context): readonly Toleration[] =>
  Object.entries(given).flatMap(([text, effect]) => {
    const one = tolerationOf(text, effect);
    if (one !== null) return [one];
    context.addIssue({
      code: "custom",
      path: [text],
      message: 'expected an effect: "NoSchedule", "PreferNoSchedule", "NoExecute", or "" for all',
    });
    return [];
  }),
);

/** Keys of `[runners.kubernetes]`. */
export const tableShape = {
  host: optionalText,
  context: optionalText,
  cert_file: optionalText,
  key_file: optionalText,
  ca_file: optionalText,
  bearer_token: optionalText,
  bearer_token_overwrite_allowed: z.boolean().default(false),
  retry_limit: positiveOr(5),
  retry_backoff_max: positiveOr(2000),
  retry_limits: z.record(z.string(), z.number().int().min(1)).default({}),

  namespace: dnsLabel,
  namespace_overwrite_allowed: pattern,
  // The key is refused: with anything less than a namespace for each job, jobs would be less separated than the
  // operator thinks.
  namespace_per_job: z
    .boolean()
    .default(false)
    .refine((value) => !value, {
      message:
        "is not supported: jobs would share one namespace. Remove it, and give this entry a namespace of its own",
    }),
  service_account: dnsSubdomain,
  service_account_overwrite_allowed: pattern,
  automount_service_account_token: maybe,
  image_pull_secrets: texts,
  use_service_account_image_pull_secrets: z.boolean().default(false),
  pod_labels: labelled,
  pod_labels_overwrite_allowed: pattern,
  pod_annotations: labelled,
  pod_annotations_overwrite_allowed: pattern,

  image: optionalText,
  helper_image: optionalText,
  helper_image_autoset_arch_and_os: z.boolean().default(false),
  pull_policy: policies,
  allowed_pull_policies: policies,
  allowed_images: texts,
  allowed_services: texts,
  allowed_users: numericIds.default([]),
  allowed_groups: numericIds.default([]),

  cpu_limit: quantity,
  cpu_request: quantity,
  memory_limit: quantity,
  memory_request: quantity,
  ephemeral_storage_limit: quantity,
  ephemeral_storage_request: quantity,
  service_cpu_limit: quantity,
  service_cpu_request: quantity,
  service_memory_limit: quantity,
  service_memory_request: quantity,
  service_ephemeral_storage_limit: quantity,
  service_ephemeral_storage_request: quantity,
  helper_cpu_limit: quantity,
  helper_cpu_request: quantity,
  helper_memory_limit: quantity,
  helper_memory_request: quantity,
  helper_ephemeral_storage_limit: quantity,
  helper_ephemeral_storage_request: quantity,
  pod_cpu_limit: quantity,
  pod_cpu_request: quantity,
  pod_memory_limit: quantity,
  pod_memory_request: quantity,
  cpu_limit_overwrite_max_allowed: quantity,
  cpu_request_overwrite_max_allowed: quantity,
  memory_limit_overwrite_max_allowed: quantity,
  memory_request_overwrite_max_allowed: quantity,
  ephemeral_storage_limit_overwrite_max_allowed: quantity,
  ephemeral_storage_request_overwrite_max_allowed: quantity,
  service_cpu_limit_overwrite_max_allowed: quantity,
  service_cpu_request_overwrite_max_allowed: quantity,
  service_memory_limit_overwrite_max_allowed: quantity,
  service_memory_request_overwrite_max_allowed: quantity,
  service_ephemeral_storage_limit_overwrite_max_allowed: quantity,
  service_ephemeral_storage_request_overwrite_max_allowed: quantity,
  helper_cpu_limit_overwrite_max_allowed: quantity,
  helper_cpu_request_overwrite_max_allowed: quantity,
  helper_memory_limit_overwrite_max_allowed: quantity,
  helper_memory_request_overwrite_max_allowed: quantity,
  helper_ephemeral_storage_limit_overwrite_max_allowed: quantity,
  helper_ephemeral_storage_request_overwrite_max_allowed: quantity,
  pod_cpu_limit_overwrite_max_allowed: quantity,
  pod_cpu_request_overwrite_max_allowed: quantity,
  pod_memory_limit_overwrite_max_allowed: quantity,
  pod_memory_request_overwrite_max_allowed: quantity,

  node_selector: labelled,
  node_selector_overwrite_allowed: pattern,
  node_tolerations: tolerations,
  node_tolerations_overwrite_allowed: pattern,
  affinity,
  priority_class_name: optionalText,
  scheduler_name: optionalText,
  runtime_class_name: optionalText,

  privileged: maybe,
  allow_privilege_escalation: maybe,
  cap_add: texts,
  cap_drop: texts,
  pod_security_context: podSecurityContext,
  build_container_security_context: containerSecurityContext,
  helper_container_security_context: containerSecurityContext,
  service_container_security_context: containerSecurityContext,
  init_permissions_container_security_context: containerSecurityContext,

  terminationGracePeriodSeconds: natural.optional(),
  pod_termination_grace_period_seconds: natural.optional(),
  cleanup_grace_period_seconds: natural.optional(),
  cleanup_resources_timeout: duration.default(300_000),
  poll_interval: positiveOr(3),
  poll_timeout: positiveOr(180),
  print_pod_warning_events: z.boolean().default(true),
  host_aliases: hostAliases,
  dns_policy: words(["None", "Default", "ClusterFirst", "ClusterFirstWithHostNet"]),
  dns_config: dnsConfig,
  services: z.array(service).default([]),
  services_environment_exclude: servicesEnvironmentExclude,
  wait_for_services_timeout: z.number().int().default(30),
  container_lifecycle: lifecycle,
  pod_spec: podSpec,
  volumes,
};

/** What a table of these keys gives. */
export type Given = z.output<z.ZodObject<typeof tableShape>>;
