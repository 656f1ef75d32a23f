/** Which keys config.toml can have, for the sake of good warnings: here, in the program it replaces, in GitLab Runner. */

/**
 * Keys of GitLab Runner by table, lower case (keys match whatever their case). A table that no executor here reads is
 * thereby known too. Keys that are supported are in the schemas; being listed twice does no harm.
 */
const GITLAB_KEYS: Readonly<Record<string, string>> = {
  "": `session_server labels use_slot_cgroups slot_cgroup_template experimental machine log_syslog`,
  runners: `docker ssh parallels virtualbox machine kubernetes cache custom custom_build_dir autoscaler instance
    referees artifact monitoring labels experimental feature_flags clean_git_config safe_directory_checkout
    job_status_final_update_retry_limit use_slot_cgroups slot_cgroup_template proxy_exec step_runner_image
    suspend_pvc_size system_id id token_obtained_at token_expires_at`,
  "runners.docker": `host tls_cert_path tls_verify hostname image runtime cpuset_cpus cpus dns dns_search privileged
    userns_mode cap_add cap_drop security_opt devices disable_cache volumes volume_driver cache_dir extra_hosts
    volumes_from network_mode links services wait_for_services_timeout allowed_images allowed_services pull_policy
    shm_size tmpfs services_tmpfs sysctls helper_image memory memory_swap memory_reservation allowed_pull_policies
    gpus service_gpus helper_image_flavor helper_image_autoset_arch_and_os user allowed_users group_add
    services_limit services_privileged services_security_opt services_devices service_memory service_memory_swap
    service_memory_reservation service_cpus service_cpu_shares service_cpuset_cpus service_cgroup_parent
    allowed_privileged_images allowed_privileged_services ulimit oom_kill_disable oom_score_adjust cpu_shares
    cpuset_mems cgroup_parent device_cgroup_rules pid_mode ipcmode mac_address isolation volume_driver_ops
    volume_keep container_labels log_options enable_ipv6 network_mtu disable_entrypoint_overwrite
    allowed_groups helper_entrypoint_always privileged_services credentials proxy_exec`,
  "runners.ssh": `user password host port identity_file disable_strict_host_key_checking known_hosts_file`,
  "runners.parallels": `base_name template_name disable_snapshots time_server allowed_images`,
  "runners.virtualbox": `base_name base_snapshot base_folder disable_snapshots allowed_images start_type`,
  "runners.machine": `idlecount idletime maxbuilds machinedriver machinename machineoptions machineoptionswithname
    offpeakperiods offpeaktimezone offpeakidlecount offpeakidletime autoscaling idlescalefactor idlecountmin
    maxgrowthrate maxremovalattempts shutdown_drain`,
  "runners.cache": `type path shared s3 gcs azure maxuploadedarchivesize serveraddress accesskey secretkey bucketname
    bucketlocation insecure`,
  "runners.cache.s3": `serveraddress accesskey secretkey sessiontoken bucketname bucketlocation insecure
    authenticationtype serversideencryption serversideencryptionkeyid pathstyle dualstack accelerate rolearn
    uploadrolearn assumerolemaxconcurrency disableassumerolecredentialscaching`,
  "runners.kubernetes": `host cert_file key_file ca_file bearer_token bearer_token_overwrite_allowed image namespace
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

/** Executors that GitLab Runner or the Go runner knows; whether they exist here is the catalog's business. */
export const FOREIGN_EXECUTORS: readonly string[] = [
  "docker",
  "docker-ssh",
  "docker+machine",
  "docker-ssh+machine",
  "ssh",
  "parallels",
  "virtualbox",
  "kubernetes",
  "custom",
  "docker-windows",
  "docker-autoscaler",
  "instance",
];

const foreign: ReadonlyMap<string, ReadonlySet<string>> = new Map(
  Object.entries(GITLAB_KEYS).map(([table, keys]) => [table, new Set(keys.split(/\s+/))]),
);

export interface UnknownKey {
  /** Dotted path of its table without indexes: `""`, `runners`, `runners.docker`. */
  readonly table: string;
  /** As written. */
  readonly key: string;
  /** Keys of that table which have an effect. */
  readonly supported: readonly string[];
  /** Keys of the global section and of `[[runners]]`. */
  readonly globalKeys: readonly string[];
  readonly runnerKeys: readonly string[];
}

/** Why a key has no effect, and what was probably meant. */
export function explainUnknownKey({ table, key, supported, globalKeys, runnerKeys }: UnknownKey): string {
  const folded = key.toLowerCase();
  const inRunner = table !== "";
  if (foreign.get(table)?.has(folded)) return "is known to GitLab Runner, not supported here (yet). It has no effect";
  if (inRunner && globalKeys.includes(folded)) {
    return `is a global key, but it stands below ${header(table)} and so belongs to that table, where it has no effect. Move it to the top, above the first [[runners]]`;
  }
  if (table !== "runners" && runnerKeys.includes(folded)) {
    return table === ""
      ? "is a key of [[runners]], but it stands above them all. Move it below the [[runners]] header it is meant for"
      : `is a key of [[runners]], but it stands below ${header(table)}. Move it up, directly below its [[runners]] header`;
  }
  const meant = nearest(key, [...supported, ...(foreign.get(table) ?? [])]);
  if (meant !== undefined) return `is not a known key. Did you mean "${meant}"? It has no effect`;
  const elsewhere = inRunner ? [...foreign].find(([name, keys]) => name !== "" && keys.has(folded))?.[0] : undefined;
  if (elsewhere !== undefined)
    return `is no key of ${header(table)}, but one of ${header(elsewhere)}. It has no effect`;
  return "is not a known key. It has no effect";
}

/** How a table is written: `[[runners]]`, `[runners.docker]`. */
export function header(table: string): string {
  return table === "runners" ? "[[runners]]" : `[${table}]`;
}

/** Is there a table of this name below `[[runners]]`, in any runner of the family? */
export function isForeignTable(name: string): boolean {
  return foreign.has(`runners.${name.toLowerCase()}`);
}

/** The candidate that `word` is most likely a misspelling of. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  const folded = word.toLowerCase();
  if (folded.length > 60) return undefined;
  const most = folded.length <= 3 ? 1 : folded.length <= 7 ? 2 : 3;
  let best: { readonly name: string; readonly distance: number } | undefined;
  for (const name of candidates) {
    const other = name.toLowerCase();
    if (Math.abs(other.length - folded.length) > most) continue;
    // `tls_ca_file` for `tls-ca-file`, `checkInterval` for `check_interval`: the same word in another fashion.
    const same = other.replace(/[-_]/g, "") === folded.replace(/[-_]/g, "");
    const found = same ? 0 : distance(folded, other);
    if (found <= most && found < other.length && (best === undefined || found < best.distance)) {
      best = { name, distance: found };
    }
  }
  return best?.name;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (previous[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (before[j - 2] ?? 0) + 1);
      }
      row.push(cost);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length] ?? 0;
}
