import { readFile } from "node:fs/promises";
import type { ContainerCreateOptions, DeviceRequest, HostConfig } from "dockerode";
import { SystemFailure } from "../../../src/errors.ts";
import { containerLabels } from "../engine/labels.ts";
import type { ObtainedImage } from "../image/image.ts";
import type { DockerSettings, ResourceLimits } from "../settings/settings.ts";
import type { Device, GpuRequest } from "../settings/values.ts";

/** Settings and a job → what the daemon is asked to create. Pure, but for `inlineProfiles`. */

/** What is the same for all containers of a job. */
interface CommonParts {
  readonly settings: DockerSettings;
  /** Its id is what counts: a tag that moves under way changes nothing. */
  readonly image: Pick<ObtainedImage, "id" | "labels">;
  readonly labels: Readonly<Record<string, string>>;
  /** The version of the daemon's API: `[1, 41]`. */
  readonly apiVersion: readonly [number, number];
  readonly podman: boolean;
  /** `HostConfig.NetworkMode`; empty: the daemon's default. */
  readonly networkMode: string;
  /** Names by which the others find it; only on a network of the job's own. */
  readonly aliases: readonly string[];
  readonly privileged: boolean;
  /** `source:target[:mode]` */
  readonly binds: readonly string[];
  /** Security options with their profiles read in. */
  readonly securityOpt: readonly string[];
}

export interface JobContainerParts extends CommonParts {
  readonly hostname: string;
  /** `name=value` */
  readonly env: readonly string[];
  /** `null`: the image's. */
  readonly user: string | null;
  /** Supplementary groups of that user, beside those that the operator adds. */
  readonly groups: readonly number[];
  /** `null`: the image's. */
  readonly entrypoint: readonly string[] | null;
  readonly command: readonly string[];
  readonly extraHosts: readonly string[];
}

export interface ServiceParts extends CommonParts {
  readonly env: readonly string[];
  readonly entrypoint: readonly string[] | null;
  readonly command: readonly string[] | null;
  readonly devices: readonly Device[];
}

/** A flood of a service's log takes this much of the host's disk, unless `log_options` say otherwise. */
const LOG_MAX_SIZE = "50m";
/** The kernel's choice under memory pressure falls on jobs before it falls on the runner. */
const OOM_SCORE_ADJUST = 500;

/** The container that runs the job's scripts, or the helper with git: same machine share, same mounts. */
export function jobContainer(parts: JobContainerParts): ContainerCreateOptions {
  const { settings, hostname, env, user, groups, entrypoint, command, extraHosts } = parts;
  const shared = parts.networkMode.startsWith("container:");
  const isHost = parts.networkMode === "host";
  return {
    Image: parts.image.id,
    Labels: containerLabels(parts.labels, settings.containerLabels, parts.image.labels),
    // It belongs to whoever owns the network; Podman does not hand it on.
    ...((shared && !parts.podman) || isHost ? {} : { Hostname: hostname.slice(0, 63) }),
    Env: [...env],
    ...(user === null ? {} : { User: user }),
    ...(entrypoint === null ? {} : { Entrypoint: [...entrypoint] }),
    Cmd: [...command],
    OpenStdin: true,
    StdinOnce: false,
    Tty: false,
    StopSignal: "SIGKILL",
    WorkingDir: "/",
    // The build container has the helper's network, and with it its card.
    ...networking(parts, shared ? undefined : settings.macAddress),
    HostConfig: {
      ...hostConfig(parts, settings.limits),
      ...(shared || extraHosts.length === 0 ? {} : { ExtraHosts: [...extraHosts] }),
      ...(shared || settings.dns.length === 0 ? {} : { Dns: [...settings.dns] }),
      ...(shared || settings.dnsSearch.length === 0 ? {} : { DnsSearch: [...settings.dnsSearch] }),
      ...(shared || settings.links.length === 0 ? {} : { Links: [...settings.links] }),
      ...list("CapAdd", settings.capAdd),
      ...list("CapDrop", settings.capDrop),
      ...list("GroupAdd", [...settings.groupAdd, ...groups.map(String)]),
      ...list("VolumesFrom", settings.volumesFrom),
      ...list("DeviceCgroupRules", settings.deviceCgroupRules),
      ...(settings.volumeDriver === undefined ? {} : { VolumeDriver: settings.volumeDriver }),
      ...(settings.devices.length === 0 ? {} : { Devices: settings.devices.map(deviceMapping) }),
      ...(settings.gpus === undefined ? {} : { DeviceRequests: [deviceRequest(settings.gpus)] }),
      ...(settings.ulimits.length === 0
        ? {}
        : { Ulimits: settings.ulimits.map(({ name, soft, hard }) => ({ Name: name, Soft: soft, Hard: hard })) }),
      ...(settings.oomKillDisable ? { OomKillDisable: true } : {}),
      ...(settings.pidMode === undefined ? {} : { PidMode: settings.pidMode }),
      ...(settings.ipcMode === undefined ? {} : { IpcMode: settings.ipcMode }),
      ...table("Tmpfs", settings.tmpfs),
      // A shared network brings its own `net.` settings; the other settings are the same for both containers.
      ...table("Sysctls", shared ? withoutNet(settings.sysctls) : settings.sysctls),
    },
  };
}

export function serviceContainer(parts: ServiceParts): ContainerCreateOptions {
  const { settings, env, entrypoint, command, devices } = parts;
  const shared = parts.networkMode.startsWith("container:");
  return {
    Image: parts.image.id,
    Labels: containerLabels(parts.labels, settings.containerLabels, parts.image.labels),
    Env: [...env],
    ...(entrypoint === null ? {} : { Entrypoint: [...entrypoint] }),
    ...(command === null ? {} : { Cmd: [...command] }),
    StopSignal: "SIGKILL",
    ...networking(parts),
    HostConfig: {
      ...hostConfig(parts, settings.serviceLimits),
      ...(shared || settings.extraHosts.length === 0 ? {} : { ExtraHosts: [...settings.extraHosts] }),
      ...(shared || settings.dns.length === 0 ? {} : { Dns: [...settings.dns] }),
      ...(shared || settings.dnsSearch.length === 0 ? {} : { DnsSearch: [...settings.dnsSearch] }),
      ...(devices.length === 0 ? {} : { Devices: devices.map(deviceMapping) }),
      ...(settings.servicesGpus === undefined ? {} : { DeviceRequests: [deviceRequest(settings.servicesGpus)] }),
      ...table("Tmpfs", settings.servicesTmpfs),
    },
  };
}

/** On a daemon before 1.44 the address of the network card stood with the container. */
function networking(
  { networkMode, aliases, apiVersion }: CommonParts,
  mac?: string,
): Pick<ContainerCreateOptions, "NetworkingConfig" | "MacAddress"> {
  const [major, minor] = apiVersion;
  const newer = major > 1 || minor >= 44;
  const endpoint = {
    ...(aliases.length === 0 ? {} : { Aliases: [...aliases] }),
    ...(mac === undefined || !newer ? {} : { MacAddress: mac }),
  };
  return {
    ...(mac === undefined || newer ? {} : { MacAddress: mac }),
    ...(Object.keys(endpoint).length === 0
      ? {}
      : { NetworkingConfig: { EndpointsConfig: { [networkMode]: endpoint } } }),
  };
}

function hostConfig(parts: CommonParts, limits: ResourceLimits): HostConfig {
  const { settings, networkMode, privileged, binds, securityOpt, podman } = parts;
  return {
    RestartPolicy: { Name: "no" },
    LogConfig: {
      Type: "json-file",
      Config: podman ? { ...settings.logOptions } : { "max-size": LOG_MAX_SIZE, ...settings.logOptions },
    },
    Privileged: privileged,
    OomScoreAdj: settings.oomScoreAdjust ?? OOM_SCORE_ADJUST,
    ...(networkMode === "" ? {} : { NetworkMode: networkMode }),
    ...list("Binds", binds),
    ...list("SecurityOpt", securityOpt),
    ...(settings.shmBytes === undefined ? {} : { ShmSize: settings.shmBytes }),
    ...(settings.runtime === undefined ? {} : { Runtime: settings.runtime }),
    ...(settings.usernsMode === undefined ? {} : { UsernsMode: settings.usernsMode }),
    ...(limits.nanoCpus === undefined ? {} : { NanoCpus: limits.nanoCpus }),
    ...(limits.cpuShares === undefined ? {} : { CpuShares: limits.cpuShares }),
    ...(limits.cpusetCpus === undefined ? {} : { CpusetCpus: limits.cpusetCpus }),
    ...(limits.cpusetMems === undefined ? {} : { CpusetMems: limits.cpusetMems }),
    ...(limits.memoryBytes === undefined ? {} : { Memory: limits.memoryBytes }),
    ...(limits.memorySwapBytes === undefined ? {} : { MemorySwap: limits.memorySwapBytes }),
    ...(limits.memoryReservationBytes === undefined ? {} : { MemoryReservation: limits.memoryReservationBytes }),
    ...(limits.cgroupParent === undefined ? {} : { CgroupParent: limits.cgroupParent }),
  };
}

function list<Name extends string>(name: Name, values: readonly string[]): Partial<Record<Name, string[]>> {
  const part: Partial<Record<Name, string[]>> = {};
  if (values.length > 0) part[name] = [...values];
  return part;
}

function table<Name extends string>(
  name: Name,
  values: Readonly<Record<string, string>>,
): Partial<Record<Name, Record<string, string>>> {
  const part: Partial<Record<Name, Record<string, string>>> = {};
  if (Object.keys(values).length > 0) part[name] = { ...values };
  return part;
}

function withoutNet(sysctls: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(sysctls).filter(([name]) => !name.startsWith("net.")));
}

function deviceMapping({ hostPath, containerPath, permissions }: Device): Record<string, string> {
  return { PathOnHost: hostPath, PathInContainer: containerPath, CgroupPermissions: permissions };
}

function deviceRequest({ driver, count, deviceIds, capabilities, options }: GpuRequest): DeviceRequest {
  return {
    Driver: driver,
    Count: count,
    DeviceIDs: [...deviceIds],
    Capabilities: [[...capabilities]],
    Options: { ...options },
  };
}

/**
 * `seccomp=<file>` names a file of the runner's host, but the daemon wants its text.
 * @throws {SystemFailure} it cannot be read
 */
export async function inlineProfiles(options: readonly string[]): Promise<string[]> {
  return await Promise.all(
    options.map(async (option) => {
      const file = /^seccomp[=:](\/.*)$/.exec(option)?.[1];
      if (file === undefined) return option;
      try {
        return `seccomp=${JSON.stringify(JSON.parse(await readFile(file, "utf8")))}`;
      } catch (cause) {
        throw new SystemFailure(
          `Cannot read the seccomp profile ${file}, which security_opt in [runners.docker] names`,
          {
            reason: "runner_configuration_error",
            cause,
          },
        );
      }
    }),
  );
}
