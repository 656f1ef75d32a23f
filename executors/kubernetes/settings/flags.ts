import type { EntryFlag } from "../../../src/executor/words.ts";

type Row = readonly [flag: string, key: string, kind: EntryFlag["kind"], help: string];

/** Flag without `kubernetes-`, spelled as in the Go runner; key of `[runners.kubernetes]`. */
const rows: readonly Row[] = [
  ["host", "host", "text", "API server; empty: the runner's own cluster, or the kubeconfig"],
  ["context", "context", "text", "context of the kubeconfig"],
  ["cert-file", "cert_file", "text", "client certificate, with host"],
  ["key-file", "key_file", "text", "its key"],
  ["ca-file", "ca_file", "text", "authority of the API server"],
  ["bearer_token", "bearer_token", "text", "token, with host"],
  ["bearer_token_overwrite_allowed", "bearer_token_overwrite_allowed", "boolean", "jobs may bring a token"],
  ["image", "image", "text", "image for jobs that name none"],
  ["namespace", "namespace", "text", "namespace of the pods"],
  ["namespace_overwrite_allowed", "namespace_overwrite_allowed", "text", "pattern of namespaces that jobs may choose"],
  ["privileged", "privileged", "boolean", "privileged containers: jobs can take over the node"],
  ["allow-privilege-escalation", "allow_privilege_escalation", "boolean", "sudo and the like work in jobs"],
  ["cpu-limit", "cpu_limit", "text", "processors that the build container may use"],
  ["cpu-request", "cpu_request", "text", "processors that it is promised"],
  ["memory-limit", "memory_limit", "text", "memory that the build container may use"],
  ["memory-request", "memory_request", "text", "memory that it is promised"],
  ["service-cpu-limit", "service_cpu_limit", "text", "the same for each service"],
  ["service-cpu-request", "service_cpu_request", "text", "the same for each service"],
  ["service-memory-limit", "service_memory_limit", "text", "the same for each service"],
  ["service-memory-request", "service_memory_request", "text", "the same for each service"],
  ["helper-cpu-limit", "helper_cpu_limit", "text", "the same for the helper container"],
  ["helper-cpu-request", "helper_cpu_request", "text", "the same for the helper container"],
  ["helper-memory-limit", "helper_memory_limit", "text", "the same for the helper container"],
  ["helper-memory-request", "helper_memory_request", "text", "the same for the helper container"],
  ["allowed-images", "allowed_images", "list", "pattern of images that jobs may name; may be repeated"],
  ["allowed-services", "allowed_services", "list", "pattern of services that jobs may name; may be repeated"],
  [
    "services-environment-exclude",
    "services_environment_exclude",
    "list",
    "name or glob of variables of environment that services do not get; may be repeated",
  ],
  ["pull-policy", "pull_policy", "list", "always, if-not-present, never; several are tried in turn"],
  ["allowed-pull-policies", "allowed_pull_policies", "list", "what jobs may choose"],
  ["node-selector", "node_selector", "table", "label of nodes, key:value; may be repeated"],
  ["node-tolerations", "node_tolerations", "table", "toleration, key=value:effect; may be repeated"],
  ["image-pull-secrets", "image_pull_secrets", "list", "secret with a registry's login; may be repeated"],
  ["helper-image", "helper_image", "text", "image with sh and git for the runner's own stages"],
  [
    "terminationGracePeriodSeconds",
    "terminationGracePeriodSeconds",
    "integer",
    "seconds that a pod has to end; 0 counts as 1",
  ],
  ["poll-interval", "poll_interval", "integer", "seconds between looks, where no watch is allowed"],
  ["poll-timeout", "poll_timeout", "integer", "seconds that a pod has to start"],
  ["pod-labels", "pod_labels", "table", "label of pods, key:value; may be repeated"],
  ["pod-annotations", "pod_annotations", "table", "annotation of pods, key:value; may be repeated"],
  [
    "pod_annotations_overwrite_allowed",
    "pod_annotations_overwrite_allowed",
    "text",
    "pattern of key=value that jobs may annotate",
  ],
  ["service-account", "service_account", "text", "service account of the pods"],
  [
    "service_account_overwrite_allowed",
    "service_account_overwrite_allowed",
    "text",
    "pattern of service accounts that jobs may choose",
  ],
];

const ENV: Readonly<Record<string, string>> = { context: "KUBECTL_CONTEXT" };

export const kubernetesFlags: readonly EntryFlag[] = rows.map(([flag, key, kind, help]) => ({
  flag: `kubernetes-${flag}`,
  ...(kind === "table" ? {} : { env: ENV[key] ?? `KUBERNETES_${key.toUpperCase()}` }),
  key: `kubernetes.${key}`,
  kind,
  help,
}));
