import { Command } from "commander";
import { expect, test } from "vitest";
import { executors } from "../../executors/index.ts";
import { addRegisterCommand } from "../../src/commands/register/flags.ts";
import { isFlag, switches, unheeded } from "../../src/feature-flags.ts";
import { readSettings } from "../../src/job/plan/settings.ts";
import { jobWith } from "../job/stand.ts";
import { read } from "./support.ts";

/**
 * All that users of GitLab Runner 19.4 can write which the one before it did not know: each word has its effect, or is named once as
 * one that has none. Nothing is passed over in silence.
 */

const words = (text: string): string[] => text.trim().split(/\s+/);

/** Values as TOML, where it is not the text "x". */
const VALUES: Readonly<Record<string, string>> = {
  Type: '"s3"',
  Shared: "true",
  id: "12",
  token_obtained_at: "2027-01-01T00:00:00Z",
  token_expires_at: "0001-01-01T00:00:00Z",
  config_args: "[]",
  prepare_args: "[]",
  run_args: "[]",
  cleanup_args: "[]",
  config_exec_timeout: "1",
  prepare_exec_timeout: "1",
  cleanup_exec_timeout: "1",
  graceful_kill_timeout: "1",
  force_kill_timeout: "1",
  job_git_variables: '"all"',
  rotate_token: "false",
  prepare_timeout: "60",
  get_sources_timeout: "60",
  debug_trace_disabled: "true",
  safe_directory_checkout: "true",
  clean_git_config: "true",
  use_slot_cgroups: "true",
  strict_check_interval: "true",
  unhealthy_requests_limit: "3",
  unhealthy_interval: '"60s"',
  job_status_final_update_retry_limit: "3",
  clone_url: '"https://mirror.example.com"',
  listen_address: '"127.0.0.1:0"',
  advertise_address: '"ci.example.com:8093"',
  session_timeout: "1800",
  connection_max_age: '"15m"',
  debug_endpoints: "true",
  enabled: "true",
  periods: '["* * 9-17 * * mon-fri *"]',
  timezone: '"UTC"',
  threshold: '"30s"',
  jobs_running_for_project: '"[1-9]"',
  services_environment_exclude: '["A"]',
  services_see_builds: "false",
  entrypoint_variables: '"none"',
  service_cpus: '"1.5"',
  service_memory: '"1g"',
  service_memory_swap: '"1g"',
  service_memory_reservation: '"1g"',
  service_cpuset_cpus: '"0"',
  cpuset_mems: '"0"',
  mac_address: '"02:42:ac:11:00:02"',
  ipcmode: '"host"',
  pid_mode: '"host"',
  service_gpus: '"all"',
  service_cpu_shares: "2",
  services_limit: "2",
  network_mtu: "1400",
  oom_score_adjust: "-500",
  services_privileged: "false",
  disable_entrypoint_overwrite: "true",
  oom_kill_disable: "true",
  volume_keep: "true",
  enable_ipv6: "true",
  allowed_users: '["1000"]',
  group_add: '["1000"]',
  services_security_opt: '["no-new-privileges"]',
  device_cgroup_rules: '["c 1:3 r"]',
  allowed_privileged_images: '["x"]',
  allowed_privileged_services: '["x"]',
  services_devices: '{ "x:*" = ["/dev/null"] }',
  volume_driver_ops: '{ a = "b" }',
  container_labels: '{ a = "b" }',
  ulimit: '{ nofile = "1024:2048" }',
  log_options: '{ max-size = "10m" }',
  MaxUploadedArchiveSize: "1",
  AuthenticationType: '"access-key"',
  ServerSideEncryption: '"KMS"',
  ServerSideEncryptionKeyID: '"k"',
  DualStack: "false",
  PathStyle: "true",
  Accelerate: "false",
  Insecure: "false",
  AssumeRoleMaxConcurrency: "5",
  DisableAssumeRoleCredentialsCaching: "true",
  RoleARN: '"arn:aws:iam::1:role/a"',
  UploadRoleARN: '"arn:aws:iam::1:role/a"',
  AccountKey: '"aGVsbG8="',
};

interface Keys {
  /** How the table is written; empty: above all others. */
  readonly header: string;
  readonly keys: string;
  readonly executor?: string;
  /** What the entry needs besides. */
  readonly entry?: string;
  /** What the table needs besides, by key. */
  readonly table?: Readonly<Record<string, string>>;
}

const TABLES: readonly Keys[] = [
  { header: "", keys: "listen_address debug_endpoints connection_max_age" },
  { header: "[session_server]", keys: "listen_address advertise_address session_timeout" },
  {
    header: "[[runners]]",
    keys: `id token_obtained_at token_expires_at pre_get_sources_script post_get_sources_script prepare_timeout get_sources_timeout
      debug_trace_disabled safe_directory_checkout clean_git_config proxy_exec use_slot_cgroups slot_cgroup_template
      strict_check_interval unhealthy_requests_limit unhealthy_interval job_status_final_update_retry_limit clone_url
      job_git_variables rotate_token`,
  },
  { header: "[runners.custom_build_dir]", keys: "enabled" },
  {
    header: "[runners.custom]",
    executor: "custom",
    entry: 'builds_dir = "/b"\ncache_dir = "/c"',
    table: { run_exec: '"r"' },
    keys: `config_exec config_args config_exec_timeout prepare_exec prepare_args prepare_exec_timeout run_exec run_args
      cleanup_exec cleanup_args cleanup_exec_timeout graceful_kill_timeout force_kill_timeout`,
  },
  {
    header: "[runners.docker]",
    executor: "docker",
    table: { image: '"x"' },
    keys: `cgroup_parent cpuset_mems service_cgroup_parent service_cpuset_cpus service_cpus service_memory service_memory_swap
      service_memory_reservation service_gpus service_slot_cgroup_template pid_mode ipcmode mac_address isolation helper_image
      helper_image_flavor service_cpu_shares services_limit network_mtu oom_score_adjust services_privileged
      disable_entrypoint_overwrite oom_kill_disable volume_keep enable_ipv6 allowed_users group_add services_security_opt
      device_cgroup_rules allowed_privileged_images allowed_privileged_services services_devices volume_driver_ops
      container_labels ulimit log_options services_environment_exclude services_see_builds entrypoint_variables`,
  },
  { header: "[runners.cache]", table: { BucketName: '"b"' }, keys: "Type Path Shared MaxUploadedArchiveSize" },
  {
    header: "[runners.cache.s3]",
    keys: `SessionToken AuthenticationType ServerSideEncryption ServerSideEncryptionKeyID DualStack PathStyle Accelerate RoleARN
      UploadRoleARN AssumeRoleMaxConcurrency DisableAssumeRoleCredentialsCaching ServerAddress AccessKey SecretKey BucketName
      BucketLocation Insecure`,
  },
  { header: "[runners.cache.gcs]", keys: "BucketName CredentialsFile AccessID PrivateKey UniverseDomain" },
  { header: "[runners.cache.azure]", keys: "AccountName AccountKey ContainerName StorageDomain" },
  {
    header: "[[runners.monitoring.job_queuing_durations]]",
    table: { periods: '["* * * * * * *"]' },
    keys: "periods timezone threshold jobs_running_for_project",
  },
];

/** What stands for nothing in this runner, and is told so. */
const NAMED = new Set(
  words(`safe_directory_checkout clean_git_config proxy_exec use_slot_cgroups slot_cgroup_template
    job_status_final_update_retry_limit service_slot_cgroup_template isolation helper_image_flavor`),
);

function configOf({ header, executor = "shell", entry = "", table = {} }: Keys, key: string): string {
  const runner = `[[runners]]\nname = "a"\nurl = "https://ci.example.com"\ntoken = "t"\nexecutor = "${executor}"\n${entry}\n`;
  const needed = Object.entries(table).filter(([name]) => name !== key);
  const lines = [...needed, [key, VALUES[key] ?? '"x"']].map((pair) => pair.join(" = ")).join("\n");
  if (header === "") return `${lines}\n${runner}`;
  if (header === "[[runners]]") return `${runner}${lines}\n`;
  return `${runner}${header}\n${lines}\n`;
}

const keys = TABLES.flatMap((table) =>
  words(table.keys).map((key) => ({ table, key, name: `${table.header} ${key}` })),
);

test.each(keys)("$name has its effect, or is named once", async ({ table, key }) => {
  const text = configOf(table, key);
  const { warnings, broken } = await read(text, { catalog: executors, findFile: async (path) => ({ path }) });
  expect(broken.flatMap(({ problems }) => problems.map(({ text: why }) => why))).toEqual([]);
  const why = `${key} of "a" is known to GitLab Runner, not supported here (yet). It has no effect`;
  expect(warnings).toEqual(NAMED.has(key) ? [expect.stringContaining(why)] : []);
});

test("a key that nobody knows is named, too", async () => {
  for (const table of TABLES) {
    const { warnings } = await read(configOf(table, "qqqqqqqqqq"), { catalog: executors });
    expect(
      warnings.filter((warning) => warning.includes("qqqqqqqqqq")),
      table.header,
    ).toHaveLength(1);
  }
});

/** Flags of `register` with their variables; `-`: none. */
const FLAGS: Readonly<Record<string, string>> = {
  REGISTER: `locked access-level run-untagged maximum-timeout paused maintenance-note`,
  RUNNER: `tag-list pre-get-sources-script post-get-sources-script prepare-timeout get-sources-timeout debug-trace-disabled
    safe-directory-checkout clean-git-config proxy-exec use-slot-cgroups slot-cgroup-template strict-check-interval
    unhealthy-requests-limit unhealthy-interval job-status-final-update-retry-limit`,
  CUSTOM: `config-exec config-exec-timeout prepare-exec prepare-exec-timeout run-exec cleanup-exec cleanup-exec-timeout
    graceful-kill-timeout force-kill-timeout`,
  DOCKER: `cgroup-parent cpuset-mems service-cgroup-parent service-cpuset-cpus service-cpus service-memory service-memory-swap
    service-memory-reservation service_gpus service-slot-cgroup-template pid-mode mac-address isolation helper-image-flavor
    service-cpu-shares services-limit oom-score-adjust services_privileged disable-entrypoint-overwrite oom-kill-disable
    volume-keep allowed_users group-add services-security-opt device-cgroup-rules allowed-privileged-images
    allowed-privileged-services services_devices volume-driver-ops ulimit log-options`,
  CACHE_S3: `session-token authentication_type server-side-encryption server-side-encryption-key-id dual-stack path-style accelerate
    role-arn upload-role-arn assume-role-max-concurrency disable-assume-role-credentials-caching`,
  CACHE_GCS: `access-id private-key bucket-name universe-domain`,
  CACHE_AZURE: `account-name account-key container-name storage-domain`,
};
const ODD: Readonly<Record<string, string>> = {
  "docker-ipcmode": "DOCKER_IPC_MODE",
  "docker-network-mtu": "",
  "docker-enable-ipv6": "",
  "docker-container-labels": "",
  "custom-config-args": "",
  "custom-prepare-args": "",
  "custom-run-args": "",
  "custom-cleanup-args": "",
  "template-config": "TEMPLATE_CONFIG_FILE",
  "feature-flags": "FEATURE_FLAGS",
  "custom_build_dir-enabled": "CUSTOM_BUILD_DIR_ENABLED",
  "cache-max_uploaded_archive_size": "CACHE_MAXIMUM_UPLOADED_ARCHIVE_SIZE",
  "cache-gcs-credentials-file": "GOOGLE_APPLICATION_CREDENTIALS",
};
const PREFIXES: Readonly<Record<string, string>> = {
  REGISTER: "",
  RUNNER: "",
  CUSTOM: "custom-",
  DOCKER: "docker-",
  CACHE_S3: "cache-s3-",
  CACHE_GCS: "cache-gcs-",
  CACHE_AZURE: "cache-azure-",
};

test("each flag of register is one here, with its variable", () => {
  const register = addRegisterCommand(new Command(), executors);
  const plain = (name: string): string => name.replaceAll("_", "-");
  const found = new Map(register.options.map(({ long, envVar }) => [plain(long?.slice(2) ?? ""), envVar]));
  const usual = Object.entries(FLAGS).flatMap(([family, flags]) =>
    words(flags).map((flag) => [
      `${PREFIXES[family]}${flag}`,
      `${family}_${plain(flag).replaceAll("-", "_").toUpperCase()}`,
    ]),
  );
  for (const [flag = "", env = ""] of [...usual, ...Object.entries(ODD)]) {
    expect([...found.keys()], flag).toContain(plain(flag));
    if (env !== "") expect(found.get(plain(flag)), flag).toBe(env);
  }
});

/** What a job can set, as far as its plan depends on it. */
const VARIABLES = words(`GIT_STRATEGY GIT_DEPTH GIT_CLONE_EXTRA_FLAGS GIT_FETCH_EXTRA_FLAGS GIT_CLEAN_FLAGS GIT_CHECKOUT
  GIT_SUBMODULE_STRATEGY GIT_SUBMODULE_DEPTH GIT_SUBMODULE_PATHS GIT_SUBMODULE_UPDATE_FLAGS GIT_SUBMODULE_FORCE_HTTPS
  GIT_LFS_SKIP_SMUDGE GET_SOURCES_ATTEMPTS RESTORE_CACHE_ATTEMPTS ARTIFACT_DOWNLOAD_ATTEMPTS SECRETS_RETRIEVAL_ATTEMPTS
  CACHE_CHUNK_SIZE CACHE_CONCURRENCY CACHE_TRANSFER_BUFFER_SIZE CI_DEBUG_TRACE CI_DEBUG_SERVICES`);

test("each variable that steers a job is read", () => {
  const asked = new Set<string>();
  const get = (key: string): string | undefined => {
    asked.add(key);
    return key === "GIT_STRATEGY" ? "clone" : key.startsWith("FF_") ? "true" : undefined;
  };
  readSettings(jobWith({ dialect: "gitlab" }), { get, debugTraceDisabled: false });
  expect(VARIABLES.filter((name) => !asked.has(name))).toEqual([]);
});

test("variables without effect are named in one sentence", () => {
  const given: Readonly<Record<string, string>> = {
    CACHE_CHUNK_SIZE: "1",
    CACHE_CONCURRENCY: "2",
    CACHE_TRANSFER_BUFFER_SIZE: "3",
  };
  const { warnings } = readSettings(jobWith({ dialect: "gitlab" }), {
    get: (key) => given[key],
    debugTraceDisabled: false,
  });
  expect(warnings).toEqual([
    expect.stringMatching(/^CACHE_CHUNK_SIZE, CACHE_CONCURRENCY, CACHE_TRANSFER_BUFFER_SIZE: no effect/),
  ]);
});

/** Each with its default there. */
const FLAGS_ON =
  words(`FF_TIMESTAMPS FF_MASK_ALL_DEFAULT_TOKENS FF_ENABLE_JOB_INPUTS_INTERPOLATION FF_SECRET_RESOLVING_FAILS_IF_MISSING
  FF_USE_GIT_BUNDLE_URIS FF_USE_GITALY_CORRELATION_ID FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY FF_USE_DIRECT_DOWNLOAD
  FF_USE_ADAPTIVE_REQUEST_CONCURRENCY FF_USE_FASTZIP`);
const FLAGS_OFF =
  words(`FF_SCRIPT_SECTIONS FF_DISABLE_AUTOMATIC_TOKEN_ROTATION FF_ENABLE_JOB_CLEANUP FF_USE_GIT_NATIVE_CLONE
  FF_USE_GIT_PROACTIVE_AUTH FF_HASH_CACHE_KEYS FF_USE_PARALLEL_CACHE_TRANSFER FF_EXPORT_HIGH_CARDINALITY_METRICS
  FF_LOG_IMAGES_CONFIGURED_FOR_JOB FF_CLEAN_UP_FAILED_CACHE_EXTRACT FF_NETWORK_PER_BUILD FF_POSIXLY_CORRECT_ESCAPES
  FF_GIT_URLS_WITHOUT_TOKENS FF_RESOLVE_FULL_TLS_CHAIN FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR FF_USE_INIT_WITH_DOCKER_EXECUTOR
  FF_USE_PARALLEL_ARTIFACT_TRANSFER FF_ENABLE_BASH_EXIT_CODE_CHECK FF_USE_LEGACY_BASH_EVAL
  FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL FF_DISABLE_POWERSHELL_STDIN FF_USE_POWERSHELL_PATH_RESOLVER
  FF_USE_NATIVE_CONTAINER_STOP FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY FF_USE_WINDOWS_JOB_OBJECT FF_USE_LEGACY_S3_CACHE_ADAPTER
  FF_USE_LEGACY_GCS_CACHE_ADAPTER FF_KUBERNETES_HONOR_ENTRYPOINT FF_USE_POD_ACTIVE_DEADLINE_SECONDS FF_PRINT_POD_EVENTS
  FF_WAIT_FOR_POD_TO_BE_REACHABLE FF_USE_ADVANCED_POD_SPEC_CONFIGURATION FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR
  FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO FF_USE_FLEETING_ACQUIRE_HEARTBEATS
  FF_USE_JOB_ROUTER FF_CONCRETE FF_SCRIPT_TO_STEP_MIGRATION FF_SUSPENDABLE_ENVIRONMENTS`);

const flags = [
  ...FLAGS_ON.map((flag) => ({ flag, usual: true })),
  ...FLAGS_OFF.map((flag) => ({ flag, usual: false })),
];

test.each(flags)("$flag is obeyed, or at most one of its values is named", async ({ flag, usual }) => {
  expect(isFlag(flag)).toBe(true);
  const told = async (value: boolean): Promise<readonly string[]> => {
    const table: Keys = { header: "[runners.feature_flags]", keys: "" };
    const { warnings } = await read(configOf(table, flag).replace('"x"', String(value)), { catalog: executors });
    return warnings;
  };
  const ofBoth = [await told(true), await told(false)];
  const named = ofBoth.flat();
  expect(named.every((warning) => warning.includes(`feature_flags.${flag} of "a" has no effect: `))).toBe(true);
  if (Object.hasOwn(switches, flag)) {
    expect(named).toEqual([]);
    // The one that is on without being set.
    if (flag === "FF_EXPORT_HIGH_CARDINALITY_METRICS") return;
    expect(new Map<string, boolean>(Object.entries(switches)).get(flag)).toBe(usual);
  } else {
    expect(named.length).toBeLessThanOrEqual(1);
    for (const value of [true, false]) {
      const inJob = unheeded(flag, value, "job") === null ? [] : [expect.anything()];
      expect(await told(value)).toEqual(inJob);
    }
  }
});
