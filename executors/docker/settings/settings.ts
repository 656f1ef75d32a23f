import { z } from "zod";
import {
  type ConnectionSettings,
  cpus,
  device,
  entrypointVariables,
  gpus,
  helperImage,
  logOptions,
  natural,
  optionalText,
  policies,
  type ResourceLimits,
  service,
  servicesEnvironmentExclude,
  shares,
  size,
  swap,
  table,
  text,
  texts,
  ulimits,
  volume,
  waitSeconds,
} from "./fields.ts";
import type { Device, VolumeSetting } from "./values.ts";

export type { ConnectionSettings, ResourceLimits } from "./fields.ts";

/**
 * The table `[runners.docker]`, for docker and docker-ssh: names and forms of the Go runner and of GitLab Runner, checked when
 * the configuration is read. Numbers come out in bytes, milliseconds and billionths of a processor.
 */

/** The table's name in sentences. */
export const TABLE = "runners.docker";

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
  services: z.array(service).default([]),
  services_see_builds: z.boolean().default(true),
  services_environment_exclude: servicesEnvironmentExclude,
  services_limit: z.number().int().min(-1).optional(),
  wait_for_services_timeout: waitSeconds,
  allowed_images: texts,
  allowed_services: texts,
  allowed_users: texts,
  pull_policy: policies,
  allowed_pull_policies: policies,
  helper_image: helperImage,
  disable_entrypoint_overwrite: z.boolean().default(false),
  entrypoint_variables: entrypointVariables,
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
    /** What containers' first programs see of a job's variables. */
    entrypointVariables: given.entrypoint_variables,

    services: given.services,
    /** The builds directory is in services, too; the job's private files never are. */
    servicesSeeBuilds: given.services_see_builds,
    /** Names and globs of `environment` that services do not get; `undefined`: those that sound like a password. */
    servicesEnvironmentExclude: given.services_environment_exclude,
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
