import { z } from "zod";
import { relations } from "./relations.ts";
import { quantitiesOf } from "./resources.ts";
import { tableShape } from "./shape.ts";

/** The table `[runners.kubernetes]`: keys of the Go runner and of GitLab Runner, checked when the configuration is read. */

/** The table's name in sentences. */
export const TABLE = "runners.kubernetes";

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
    servicesEnvironmentExclude: given.services_environment_exclude,
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
