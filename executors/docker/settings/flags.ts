import { type EntryFlag, type EntryTable, isEntryTable } from "../../../src/executor/words.ts";
import { moreRows, type Row } from "./more-flags.ts";

/** Flag without `docker-`, variable without `DOCKER_`, key of `[runners.docker]`. */
const rows: readonly Row[] = [
  ["image", "IMAGE", "image", "text", "image for jobs that name none"],
  ["host", "HOST", "host", "text", "the engine: unix:///path, tcp://host:2376, ssh://user@host"],
  ["cert-path", "CERT_PATH", "tls_cert_path", "text", "folder of ca.pem, cert.pem, key.pem"],
  ["tlsverify", "TLS_VERIFY", "tls_verify", "boolean", "use TLS and check the engine's certificate"],
  ["hostname", "HOSTNAME", "hostname", "text", "host name of job containers"],
  ["runtime", "RUNTIME", "runtime", "text", "OCI runtime"],
  ["memory", "MEMORY", "memory", "text", "memory limit of job containers, such as 2g"],
  ["memory-swap", "MEMORY_SWAP", "memory_swap", "text", "memory and swap together; -1: no limit"],
  ["memory-reservation", "MEMORY_RESERVATION", "memory_reservation", "text", "memory to keep for a container"],
  ["cpuset-cpus", "CPUSET_CPUS", "cpuset_cpus", "text", "processors to use, such as 0-3"],
  ["cpus", "CPUS", "cpus", "text", "number of processors, such as 0.5 or 1/3"],
  ["cpu-shares", "CPU_SHARES", "cpu_shares", "integer", "relative share of processor time"],
  ["dns", "DNS", "dns", "list", "DNS server; may be repeated"],
  ["dns-search", "DNS_SEARCH", "dns_search", "list", "DNS search domain; may be repeated"],
  [
    "privileged",
    "PRIVILEGED",
    "privileged",
    "boolean",
    "privileged containers: jobs can take over the engine's machine",
  ],
  ["userns", "USERNS_MODE", "userns_mode", "text", "user namespace mode"],
  ["cap-add", "CAP_ADD", "cap_add", "list", "capability to add; may be repeated"],
  ["cap-drop", "CAP_DROP", "cap_drop", "list", "capability to drop; may be repeated"],
  ["security-opt", "SECURITY_OPT", "security_opt", "list", "security option; may be repeated"],
  ["devices", "DEVICES", "devices", "list", "device host[:container[:rwm]]; may be repeated"],
  ["gpus", "GPUS", "gpus", "text", "GPUs: all, a number, or device=0,1"],
  ["user", "USER", "user", "text", "user of the build container"],
  ["disable-cache", "DISABLE_CACHE", "disable_cache", "boolean", "keep no volume between jobs"],
  ["volumes", "VOLUMES", "volumes", "list", "volume /path or host:container[:mode]; may be repeated"],
  ["volume-driver", "VOLUME_DRIVER", "volume_driver", "text", "volume driver"],
  ["cache-dir", "CACHE_DIR", "cache_dir", "text", "folder of the engine's machine that backs kept volumes"],
  ["extra-hosts", "EXTRA_HOSTS", "extra_hosts", "list", "name:address for /etc/hosts; may be repeated"],
  ["volumes-from", "VOLUMES_FROM", "volumes_from", "list", "container whose volumes to use; may be repeated"],
  ["network-mode", "NETWORK_MODE", "network_mode", "text", "network to join instead of one of the job's own"],
  ["links", "LINKS", "links", "list", "link to a container; may be repeated"],
  ["services", "SERVICES", "services", "list", "image of a service for each job; may be repeated"],
  [
    "services-see-builds",
    "SERVICES_SEE_BUILDS",
    "services_see_builds",
    "boolean",
    "false: services get no builds directory",
  ],
  [
    "services-environment-exclude",
    "SERVICES_ENVIRONMENT_EXCLUDE",
    "services_environment_exclude",
    "list",
    "name or glob of variables of environment that services do not get; may be repeated",
  ],
  [
    "entrypoint-variables",
    "ENTRYPOINT_VARIABLES",
    "entrypoint_variables",
    "text",
    "variables of the job that an ENTRYPOINT sees: public, all (secrets too), none",
  ],
  [
    "wait-for-services-timeout",
    "WAIT_FOR_SERVICES_TIMEOUT",
    "wait_for_services_timeout",
    "integer",
    "seconds to wait for services; negative: don't",
  ],
  [
    "allowed-images",
    "ALLOWED_IMAGES",
    "allowed_images",
    "list",
    "pattern of images that jobs may name; may be repeated",
  ],
  ["allowed-services", "ALLOWED_SERVICES", "allowed_services", "list", "pattern of services that jobs may name"],
  ["pull-policy", "PULL_POLICY", "pull_policy", "list", "always, if-not-present, never; several are tried in turn"],
  ["allowed-pull-policies", "ALLOWED_PULL_POLICIES", "allowed_pull_policies", "list", "what jobs may choose"],
  ["shm-size", "SHM_SIZE", "shm_size", "integer", "size of /dev/shm, bytes"],
  ["tmpfs", "TMPFS", "tmpfs", "table", "path:options of a tmpfs in job containers; may be repeated"],
  ["services-tmpfs", "SERVICES_TMPFS", "services_tmpfs", "table", "the same in services"],
  ["sysctls", "SYSCTLS", "sysctls", "table", "name=value of a kernel setting; may be repeated"],
  ["helper-image", "HELPER_IMAGE", "helper_image", "text", "image with sh and git for the runner's own work"],
  ...moreRows,
];

/** The Go runner's and GitLab Runner's flags for `[runners.docker]`. */
export const dockerFlags: readonly EntryFlag[] = rows.map(([flag, env, key, kind, help]) => ({
  flag: `docker-${flag}`,
  ...(env === null ? {} : { env: `DOCKER_${env}` }),
  key: `docker.${key}`,
  kind,
  help,
}));

/** The Go runner has always added `/cache`, which jobs keep things in, to the volumes of a new entry. */
export function withCacheVolume(entry: EntryTable): EntryTable {
  const { docker } = entry;
  const table: EntryTable = isEntryTable(docker) ? docker : {};
  const given = Array.isArray(table.volumes) ? table.volumes.map(String) : [];
  const there = given.some((volume) => /(?:^|:)\/cache\/?(?::[\w,]+)?$/.test(volume));
  return there ? entry : { ...entry, docker: { ...table, volumes: [...given, "/cache"] } };
}
