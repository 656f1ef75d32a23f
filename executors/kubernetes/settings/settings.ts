import { z } from "zod";
import { natural, optionalText, policies, service, table, texts } from "../../images/fields.ts";
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
import type { Quantity } from "./quantity.ts";
import {
  affinity,
  containerSecurityContext,
  dnsConfig,
  hostAliases,
  lifecycle,
  podSecurityContext,
  podSpec,
  volumes,
} from "./tables.ts";
import { type Toleration, tolerationOf } from "./tolerations.ts";

/** The table `[runners.kubernetes]`: keys of the Go runner and of GitLab Runner, checked when the configuration is read. */

/** The table's name in sentences. */
export const TABLE = "runners.kubernetes";

export const RESOURCES = ["cpu", "memory", "ephemeral_storage"] as const;
export const SIDES = ["request", "limit"] as const;
/** Whose resources: of the build container, of each service's, of the helper's, of the pod as a whole. */
const KINDS = ["", "service_", "helper_"] as const;
export type ResourceKind = (typeof KINDS)[number] | "pod_";
export type ResourceName = `${(typeof RESOURCES)[number]}_${(typeof SIDES)[number]}`;

const RESOURCE_NAMES: readonly ResourceName[] = RESOURCES.flatMap((name) =>
  SIDES.map((side): ResourceName => `${name}_${side}`),
);

export interface Resource {
  readonly kind: ResourceKind;
  readonly name: ResourceName;
  readonly key: string;
}

/** All keys that say how much of something containers get. */
export const resourceKeys: readonly Resource[] = [
  ...KINDS.flatMap((kind) => RESOURCE_NAMES.map((name) => ({ kind, name, key: `${kind}${name}` }))),
  ...RESOURCE_NAMES.filter((name) => !name.startsWith("ephemeral")).map((name) => ({
    kind: "pod_" as const,
    name,
    key: `pod_${name}`,
  })),
];

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
  wait_for_services_timeout: z.number().int().default(30),
  container_lifecycle: lifecycle,
  pod_spec: podSpec,
  volumes,
};

type Given = z.output<z.ZodObject<typeof tableShape>>;

/** `[runners.kubernetes]`; the output is `KubernetesSettings`. Keys match whatever their case. */
export const kubernetesTable = z
  .object(tableShape)
  // No refinement: those also see keys that have complaints of their own and so are not read yet.
  .transform((given, context) => {
    relations(given, context);
    return given;
  })
  .transform((given) => ({
    connection: {
      host: given.host,
      context: given.context,
      certFile: given.cert_file,
      keyFile: given.key_file,
      caFile: given.ca_file,
      bearerToken: given.bearer_token,
    },
    bearerTokenOverwriteAllowed: given.bearer_token_overwrite_allowed,
    retry: { attempts: given.retry_limit, maxMs: Math.max(500, given.retry_backoff_max), limits: given.retry_limits },

    /** `undefined`: the one of the runner's own pod or of the context, else `default`. */
    namespace: given.namespace,
    namespaceOverwriteAllowed: given.namespace_overwrite_allowed,
    serviceAccount: given.service_account,
    serviceAccountOverwriteAllowed: given.service_account_overwrite_allowed,
    automountServiceAccountToken: given.automount_service_account_token,
    imagePullSecrets: given.image_pull_secrets,
    useServiceAccountImagePullSecrets: given.use_service_account_image_pull_secrets,
    podLabels: given.pod_labels,
    podLabelsOverwriteAllowed: given.pod_labels_overwrite_allowed,
    podAnnotations: given.pod_annotations,
    podAnnotationsOverwriteAllowed: given.pod_annotations_overwrite_allowed,

    image: given.image,
    helperImage: given.helper_image,
    /** Empty: the cluster's own default. */
    pullPolicies: given.pull_policy,
    allowedPullPolicies: given.allowed_pull_policies,
    allowedImages: given.allowed_images,
    allowedServices: given.allowed_services,
    allowedUsers: given.allowed_users,
    allowedGroups: given.allowed_groups,
    services: given.services,
    /** `null`: services are not waited for. */
    waitForServicesMs: given.wait_for_services_timeout < 0 ? null : (given.wait_for_services_timeout || 30) * 1000,

    /** Key (`helper_cpu_limit`) → amount. */
    resources: quantitiesOf(given, ""),
    /** The same keys → the most that a job may choose. */
    mostAllowed: quantitiesOf(given, "_overwrite_max_allowed"),

    nodeSelector: given.node_selector,
    nodeSelectorOverwriteAllowed: given.node_selector_overwrite_allowed,
    tolerations: given.node_tolerations,
    tolerationsOverwriteAllowed: given.node_tolerations_overwrite_allowed,
    affinity: given.affinity,
    priorityClassName: given.priority_class_name,
    schedulerName: given.scheduler_name,
    runtimeClassName: given.runtime_class_name,

    privileged: given.privileged,
    allowPrivilegeEscalation: given.allow_privilege_escalation,
    capAdd: given.cap_add,
    capDrop: given.cap_drop,
    podSecurityContext: given.pod_security_context,
    securityContexts: {
      build: given.build_container_security_context,
      helper: given.helper_container_security_context,
      service: given.service_container_security_context,
    },

    /** Seconds. */
    graceSeconds: given.pod_termination_grace_period_seconds ?? given.terminationGracePeriodSeconds ?? 5,
    cleanupGraceSeconds: Math.max(
      1,
      given.cleanup_grace_period_seconds ??
        given.pod_termination_grace_period_seconds ??
        given.terminationGracePeriodSeconds ??
        1,
    ),
    cleanupLimitMs: given.cleanup_resources_timeout,
    pollIntervalMs: given.poll_interval * 1000,
    pollTimeoutMs: given.poll_timeout * 1000,
    printPodWarningEvents: given.print_pod_warning_events,
    hostAliases: given.host_aliases,
    dnsPolicy: given.dns_policy,
    dnsConfig: given.dns_config,
    lifecycle: given.container_lifecycle,
    podSpec: given.pod_spec,
    volumes: given.volumes,
  }))
  .readonly();

/** `[runners.kubernetes]`, checked, in one set of units. Frozen. */
export type KubernetesSettings = z.output<typeof kubernetesTable>;

function quantitiesOf(given: Given, suffix: "" | "_overwrite_max_allowed"): ReadonlyMap<string, Quantity> {
  const values = new Map(Object.entries(given));
  return new Map(
    resourceKeys.flatMap(({ key }): [string, Quantity][] => {
      const value = values.get(`${key}${suffix}`);
      return isQuantity(value) ? [[key, value]] : [];
    }),
  );
}

function isQuantity(value: unknown): value is Quantity {
  return typeof value === "object" && value !== null && "nano" in value && typeof value.nano === "bigint";
}

/** Checks that concern several keys. */
function relations(given: Given, context: z.RefinementCtx): void {
  const complain = (path: string[], message: string): void => {
    context.addIssue({ code: "custom", path, message });
  };
  const { host, cert_file, key_file, ca_file } = given;
  if (given.context !== undefined && host !== undefined) {
    complain(["context"], "names a context of a kubeconfig, and host says that there is none. Remove one of them");
  }
  if (cert_file !== undefined || key_file !== undefined) {
    for (const [key, value] of Object.entries({ host, ca_file, cert_file, key_file })) {
      if (value === undefined) complain([key], "is missing: cert_file, key_file, ca_file and host belong together");
    }
  }
  if (given.bearer_token !== undefined && host === undefined) {
    complain(["bearer_token"], "is only used together with host. Add host, or remove it");
  }
  const amounts = quantitiesOf(given, "");
  for (const { key } of resourceKeys) {
    if (!key.endsWith("_request")) continue;
    const most = amounts.get(key.replace(/_request$/, "_limit"));
    const request = amounts.get(key);
    if (most !== undefined && request !== undefined && request.nano > most.nano) {
      complain([key], `is more than ${key.replace(/_request$/, "_limit")} (${most.text})`);
    }
  }
  if (given.dns_policy === "None" && !Array.isArray(given.dns_config?.nameservers)) {
    complain(["dns_config"], 'needs nameservers where dns_policy is "none"');
  }
  if (given.node_selector["kubernetes.io/os"] === "windows") {
    complain(["node_selector", "kubernetes.io/os"], "names Windows nodes, which are not supported");
  }
  const sources = new Map<string, string>();
  const paths = new Set<string>();
  for (const { kind, name, mountPath, source } of given.volumes) {
    const text = JSON.stringify(source(name));
    if ((sources.get(name) ?? text) !== text) {
      complain(["volumes", kind], `has two volumes of the name "${name}" that are not the same`);
    }
    sources.set(name, text);
    if (paths.has(mountPath)) complain(["volumes", kind], `mounts two volumes on ${mountPath}`);
    paths.add(mountPath);
  }
}
