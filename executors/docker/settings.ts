import { z } from "zod";
import {
  type Device,
  type GpuRequest,
  parseBytes,
  parseCpus,
  parseDevice,
  parseGpus,
  parseUlimit,
  parseVolume,
  type Ulimit,
  type VolumeSetting,
} from "./settings-values.ts";

/**
 * The table `[runners.docker]`, for docker and docker-ssh: names and forms of the Go runner and of GitLab Runner, checked when
 * the configuration is read. Numbers come out in bytes, milliseconds and billionths of a processor.
 */

export const PULL_POLICIES = ["always", "if-not-present", "never"] as const;
export type PullPolicy = (typeof PULL_POLICIES)[number];

/** How to reach the daemon. */
export interface ConnectionSettings {
  /** `unix:///…`, `npipe:////./pipe/…`, `tcp://host:2376`, `http(s)://…`, `ssh://user@host:22`; empty: `DOCKER_HOST` and its kin. */
  readonly host: string;
  /** Folder with `ca.pem`, `cert.pem`, `key.pem`; empty: none. */
  readonly tlsCertPath: string;
  /** Use TLS and check the daemon's certificate. */
  readonly tlsVerify: boolean;
}

/** Shares of the machine that the containers of one kind get. `undefined`: the engine's default. */
export interface ResourceLimits {
  readonly nanoCpus: number | undefined;
  readonly cpuShares: number | undefined;
  readonly cpusetCpus: string | undefined;
  readonly cpusetMems: string | undefined;
  readonly memoryBytes: number | undefined;
  /** Memory and swap together; −1: as much swap as there is. */
  readonly memorySwapBytes: number | undefined;
  readonly memoryReservationBytes: number | undefined;
  readonly cgroupParent: string | undefined;
}

/** A service that each job of the entry gets. */
export interface ServiceSetting {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly entrypoint: readonly string[] | null;
  readonly command: readonly string[] | null;
  readonly variables: readonly { readonly key: string; readonly value: string }[];
}

const text = z.string().default("");
const optionalText = z
  .string()
  .optional()
  .transform((value) => (value === undefined || value.trim() === "" ? undefined : value.trim()));
const texts = z.array(z.string().min(1, "is empty. Remove it, or write a value")).default([]);
const table = z.record(z.string(), z.string()).default({});
const natural = z.number().int().min(0);

/** A text or number that `parse` understands, or a problem that says what was expected. */
function parsed<Input, Value>(input: z.ZodType<Input>, parse: (value: Input) => Value | null, expected: string) {
  return input.transform((value, context): Value => {
    const result = parse(value);
    if (result !== null) return result;
    context.addIssue({ code: "custom", message: `expected ${expected}` });
    return z.NEVER;
  });
}

const textOrNumber = z.union([z.string(), z.number()]);
/** Empty text and zero are what registration has always written for "not set". */
const unset = (value: string | number): boolean => value === "" || value === 0 || value === "0";

const size = parsed(
  textOrNumber,
  (value) => (unset(value) ? 0 : parseBytes(value)),
  'a size such as "512m", "2g" or a number of bytes',
)
  .optional()
  .transform((bytes) => (bytes === 0 ? undefined : bytes));
const swap = parsed(
  textOrNumber,
  (value) => (String(value).trim() === "-1" ? -1 : unset(value) ? 0 : parseBytes(value)),
  'a size such as "1g" or a number of bytes, or "-1" for no limit',
)
  .optional()
  .transform((bytes) => (bytes === 0 ? undefined : bytes));
const cpus = parsed(
  textOrNumber,
  (value) => (unset(value) ? 0 : parseCpus(String(value))),
  'a number of processors such as "0.5", "2" or "1/3"',
)
  .optional()
  .transform((nano) => (nano === 0 ? undefined : nano));
const shares = natural.optional().transform((value) => (value === 0 ? undefined : value));
const device = parsed(z.string(), parseDevice, 'a device such as "/dev/kvm" or "/dev/host:/dev/container:rwm"');
const gpus = parsed(
  z.string(),
  (value) => (value.trim() === "" ? ("none" as const) : parseGpus(value)),
  'GPUs as "all", "2" or "device=0,1"',
)
  .optional()
  .transform((request): GpuRequest | undefined => (request === "none" ? undefined : request));
const volume = parsed(
  z.string(),
  parseVolume,
  'a volume such as "/host/dir:/container/dir", "name:/container/dir:ro" or "/container/dir"',
);
const isPolicy = (value: string): value is PullPolicy => PULL_POLICIES.some((policy) => policy === value);

/** One policy, or several that are tried in turn. */
const policies = z
  .union([z.string(), z.array(z.string())])
  .default([])
  .transform((value, context): readonly PullPolicy[] => {
    const given = typeof value === "string" ? (value === "" ? [] : [value]) : value;
    for (const [index, each] of given.entries()) {
      if (isPolicy(each)) continue;
      context.addIssue({
        code: "custom",
        ...(typeof value === "string" ? {} : { path: [index] }),
        message: `expected ${PULL_POLICIES.map((name) => `"${name}"`).join(", ")}`,
        params: { names: PULL_POLICIES },
      });
    }
    return [...new Set(given.filter(isPolicy))];
  });

const variable = parsed(
  z.string(),
  (value) => {
    const split = value.indexOf("=");
    return split < 1 ? null : { key: value.slice(0, split), value: value.slice(split + 1) };
  },
  'a variable such as "NAME=value"',
);
const service = z
  .union([
    z
      .string()
      .min(1)
      .transform((name) => ({ name })),
    z.object({
      name: z.string().min(1),
      alias: z.string().optional(),
      entrypoint: z.array(z.string()).optional(),
      command: z.array(z.string()).optional(),
      environment: z.array(variable).optional(),
    }),
  ])
  .transform(
    (given): ServiceSetting => ({
      name: given.name,
      aliases: "alias" in given ? (given.alias ?? "").split(/[\s,]+/).filter((alias) => alias !== "") : [],
      entrypoint: ("entrypoint" in given ? given.entrypoint : undefined) ?? null,
      command: ("command" in given ? given.command : undefined) ?? null,
      variables: ("environment" in given ? given.environment : undefined) ?? [],
    }),
  );

const ulimits = z
  .record(z.string(), textOrNumber)
  .default({})
  .transform((given, context): readonly Ulimit[] =>
    Object.entries(given).flatMap(([name, value]) => {
      const limit = parseUlimit(name, value);
      if (limit !== null) return [limit];
      context.addIssue({
        code: "custom",
        path: [name],
        message: 'expected a limit such as "1024" or "1024:2048"',
      });
      return [];
    }),
  );

/** Options of the json-file driver, which is what service logs are read from. */
const LOG_OPTIONS = "env env-regex labels labels-regex tag max-size max-file compress".split(" ");
const logOptions = table.transform((given, context) => {
  for (const name of Object.keys(given)) {
    if (LOG_OPTIONS.includes(name)) continue;
    context.addIssue({
      code: "custom",
      path: [name],
      message: `is no option of the json-file log driver. Use one of ${LOG_OPTIONS.join(", ")}`,
    });
  }
  return given;
});

/** Seconds. The Go runner's and GitLab Runner's 0 is 30, and only a negative number switches the waiting off. */
const waitSeconds = z
  .number()
  .int()
  .default(30)
  .transform((seconds) => (seconds < 0 ? null : (seconds === 0 ? 30 : seconds) * 1000));

/** Keys of `[runners.docker]`. */
export const tableShape = {
  host: text,
  tls_cert_path: text,
  tls_verify: z.boolean().default(false),
  hostname: optionalText,
  image: optionalText,
  runtime: optionalText,
  memory: size,
  memory_swap: swap,
  memory_reservation: size,
  cpuset_cpus: optionalText,
  cpuset_mems: optionalText,
  cpus,
  cpu_shares: shares,
  cgroup_parent: optionalText,
  service_memory: size,
  service_memory_swap: swap,
  service_memory_reservation: size,
  service_cpuset_cpus: optionalText,
  service_cpuset_mems: optionalText,
  service_cpus: cpus,
  service_cpu_shares: shares,
  service_cgroup_parent: optionalText,
  dns: texts,
  dns_search: texts,
  privileged: z.boolean().default(false),
  services_privileged: z.boolean().optional(),
  privileged_images: texts,
  allowed_privileged_images: texts,
  allowed_privileged_services: texts,
  userns_mode: optionalText,
  cap_add: texts,
  cap_drop: texts,
  security_opt: texts,
  services_security_opt: texts,
  devices: z.array(device).default([]),
  services_devices: z.record(z.string(), z.array(device)).default({}),
  device_cgroup_rules: texts,
  gpus,
  service_gpus: gpus,
  ulimit: ulimits,
  oom_kill_disable: z.boolean().default(false),
  oom_score_adjust: z.number().int().min(-1000).max(1000).optional(),
  shm_size: size,
  tmpfs: table,
  services_tmpfs: table,
  sysctls: table,
  disable_cache: z.boolean().default(false),
  volumes: z.array(volume).default([]),
  volumes_from: texts,
  volume_driver: optionalText,
  volume_driver_ops: table,
  volume_keep: z.boolean().default(false),
  cache_dir: optionalText,
  extra_hosts: texts,
  links: texts,
  network_mode: optionalText,
  network_mtu: natural.optional(),
  enable_ipv6: z.boolean().default(false),
  mac_address: optionalText,
  pid_mode: optionalText,
  ipcmode: optionalText,
  isolation: optionalText.pipe(z.enum(["default", "process", "hyperv"]).optional()),
  services: z.array(service).default([]),
  services_limit: z.number().int().min(-1).optional(),
  wait_for_services_timeout: waitSeconds,
  allowed_images: texts,
  allowed_services: texts,
  allowed_users: texts,
  pull_policy: policies,
  allowed_pull_policies: policies,
  helper_image: optionalText,
  disable_entrypoint_overwrite: z.boolean().default(false),
  user: optionalText,
  group_add: texts,
  container_labels: table,
  log_options: logOptions,
};

/** `[runners.docker]`; the output is `DockerSettings`. Keys match whatever their case. */
export const dockerTable = z
  .object(tableShape)
  .transform((given) => ({
    connection: {
      host: given.host.trim(),
      tlsCertPath: given.tls_cert_path.trim(),
      tlsVerify: given.tls_verify,
    } satisfies ConnectionSettings,

    /** Image of jobs that name none; always allowed. May hold `$NAME`. */
    image: given.image,
    /** Image with sh and git for the runner's own stages; `undefined`: see `helper-image.ts`. */
    helperImage: given.helper_image,
    /** Patterns; empty: everything. */
    allowedImages: given.allowed_images,
    allowedServices: given.allowed_services,
    /** Tried in turn; at least one. */
    pullPolicies: given.pull_policy.length === 0 ? (["always"] as const) : given.pull_policy,
    /** What a job may choose; empty: the configured ones. */
    allowedPullPolicies: given.allowed_pull_policies,
    disableEntrypointOverwrite: given.disable_entrypoint_overwrite,

    services: given.services,
    /** A job's services and the entry's together; `null`: no limit. */
    servicesLimit: given.services_limit === undefined || given.services_limit < 0 ? null : given.services_limit,
    /** `null`: services are not waited for. */
    waitForServicesMs: given.wait_for_services_timeout,

    /** Of the build and helper containers. */
    limits: {
      nanoCpus: given.cpus,
      cpuShares: given.cpu_shares,
      cpusetCpus: given.cpuset_cpus,
      cpusetMems: given.cpuset_mems,
      memoryBytes: given.memory,
      memorySwapBytes: given.memory_swap,
      memoryReservationBytes: given.memory_reservation,
      cgroupParent: given.cgroup_parent,
    } satisfies ResourceLimits,
    serviceLimits: {
      nanoCpus: given.service_cpus,
      cpuShares: given.service_cpu_shares,
      cpusetCpus: given.service_cpuset_cpus,
      cpusetMems: given.service_cpuset_mems,
      memoryBytes: given.service_memory,
      memorySwapBytes: given.service_memory_swap,
      memoryReservationBytes: given.service_memory_reservation,
      cgroupParent: given.service_cgroup_parent,
    } satisfies ResourceLimits,

    privileged: given.privileged,
    /** `undefined`: as `privileged` says. */
    servicesPrivileged: given.services_privileged,
    /** Patterns of images that are run privileged where `privileged` is set; empty: all. */
    privilegedImages: [...given.privileged_images, ...given.allowed_privileged_images],
    privilegedServices: [...given.privileged_images, ...given.allowed_privileged_services],
    capAdd: given.cap_add,
    capDrop: given.cap_drop,
    securityOpt: given.security_opt,
    servicesSecurityOpt: given.services_security_opt,
    usernsMode: given.userns_mode,
    devices: given.devices satisfies readonly Device[],
    /** Pattern of service images → devices. */
    servicesDevices: given.services_devices satisfies Readonly<Record<string, readonly Device[]>>,
    deviceCgroupRules: given.device_cgroup_rules,
    gpus: given.gpus,
    servicesGpus: given.service_gpus,
    ulimits: given.ulimit,
    oomKillDisable: given.oom_kill_disable,
    oomScoreAdjust: given.oom_score_adjust,
    runtime: given.runtime,
    /** Windows containers. */
    isolation: given.isolation,
    pidMode: given.pid_mode,
    ipcMode: given.ipcmode,

    /** `name[:uid…]` of the build container; `undefined`: the image's. */
    user: given.user,
    /** Users that a job may ask for; empty: any. */
    allowedUsers: given.allowed_users,
    groupAdd: given.group_add,

    hostname: given.hostname,
    /** `undefined`: a network of each job's own. */
    networkMode: given.network_mode,
    networkMtu: given.network_mtu === 0 ? undefined : given.network_mtu,
    enableIpv6: given.enable_ipv6,
    macAddress: given.mac_address,
    dns: given.dns,
    dnsSearch: given.dns_search,
    extraHosts: given.extra_hosts,
    links: given.links,

    volumes: given.volumes satisfies readonly VolumeSetting[],
    volumesFrom: given.volumes_from,
    volumeDriver: given.volume_driver,
    volumeDriverOptions: given.volume_driver_ops,
    /** Keep volumes that `disable_cache` would remove with the job. */
    volumeKeep: given.volume_keep,
    /** No volume is kept between jobs. */
    disableCache: given.disable_cache,
    /** Directory of the host that backs paths of `volumes` without a source. */
    cacheDir: given.cache_dir,
    shmBytes: given.shm_size,
    /** Path → mount options. */
    tmpfs: given.tmpfs,
    servicesTmpfs: given.services_tmpfs,
    sysctls: given.sysctls,

    containerLabels: given.container_labels,
    /** Of the json-file driver. */
    logOptions: given.log_options,
  }))
  .readonly();

/** `[runners.docker]`, checked, in one set of units. Frozen. */
export type DockerSettings = z.output<typeof dockerTable>;
