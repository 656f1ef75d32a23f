/**
 * Executors that the Go runner or GitLab Runner has and this program has not: their names and tables are told from misspelt
 * ones. Who adds one of them takes its table along into its own words.
 */
const names: readonly string[] = [
  "docker+machine",
  "docker-ssh+machine",
  "parallels",
  "virtualbox",
  "kubernetes",
  "docker-windows",
  "docker-autoscaler",
  "instance",
];

/** Tables below `[[runners]]` → their keys, lower case. */
const keys: Readonly<Record<string, string>> = {
  parallels: `base_name template_name disable_snapshots time_server allowed_images`,
  virtualbox: `base_name base_snapshot base_folder disable_snapshots allowed_images start_type`,
  machine: `idlecount idletime maxbuilds machinedriver machinename machineoptions machineoptionswithname
    offpeakperiods offpeaktimezone offpeakidlecount offpeakidletime autoscaling idlescalefactor idlecountmin
    maxgrowthrate maxremovalattempts shutdown_drain`,
  kubernetes: `host cert_file key_file ca_file bearer_token bearer_token_overwrite_allowed image namespace
    namespace_overwrite_allowed privileged cpu_limit cpu_request memory_limit memory_request service_cpu_limit
    service_cpu_request service_memory_limit service_memory_request helper_cpu_limit helper_cpu_request
    helper_memory_limit helper_memory_request pull_policy node_selector image_pull_secrets helper_image
    terminationgraceperiodseconds pod_termination_grace_period_seconds poll_interval poll_timeout pod_labels
    service_account service_account_overwrite_allowed pod_annotations pod_annotations_overwrite_allowed volumes
    services node_tolerations affinity priority_class_name runtime_class_name scheduler_name pod_security_context
    allow_privilege_escalation cap_add cap_drop allowed_users allowed_groups automount_service_account_token
    allowed_images allowed_services allowed_pull_policies namespace_per_job pod_spec dns_policy dns_config
    host_aliases container_lifecycle retry_limit retry_backoff_max retry_limits
    resource_availability_check_max_attempts cleanup_grace_period_seconds cleanup_resources_timeout
    print_pod_warning_events context use_service_account_image_pull_secrets logs_base_dir scripts_base_dir
    pod_disruption_budget helper_image_flavor helper_image_autoset_arch_and_os build_container_security_context
    helper_container_security_context service_container_security_context`,
};

export const absent = { names, keys };
