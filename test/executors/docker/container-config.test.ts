import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import {
  inlineProfiles,
  type JobContainerParts,
  jobContainer,
  type ServiceParts,
  serviceContainer,
} from "../../../executors/docker/container/container-config.ts";
import { dockerTable } from "../../../executors/docker/settings/settings.ts";

type Table = Readonly<Record<string, unknown>>;

const common = {
  image: { id: "sha256:1", labels: [] },
  labels: { ours: "1" },
  apiVersion: [1, 41],
  podman: false,
  networkMode: "net",
  privileged: false,
  binds: [],
  securityOpt: [],
} as const;

function job(table: Table, parts: Partial<JobContainerParts> = {}) {
  return jobContainer({
    settings: dockerTable.parse(table),
    ...common,
    aliases: ["build"],
    hostname: "host",
    env: [],
    user: null,
    groups: [],
    entrypoint: null,
    command: ["sh"],
    extraHosts: [],
    ...parts,
  });
}

function service(table: Table, parts: Partial<ServiceParts> = {}) {
  return serviceContainer({
    settings: dockerTable.parse(table),
    ...common,
    aliases: ["db"],
    env: [],
    entrypoint: null,
    command: null,
    devices: [],
    ...parts,
  });
}

const GPU = { Driver: "", Count: -1, DeviceIDs: [], Capabilities: [["gpu"]], Options: {} };
const KVM = { PathOnHost: "/dev/kvm", PathInContainer: "/dev/kvm", CgroupPermissions: "rwm" };

test.each<[Table, Table]>([
  [{ memory: "512m" }, { Memory: 536_870_912 }],
  [{ memory_swap: "1g" }, { MemorySwap: 1_073_741_824 }],
  [{ memory_swap: "-1" }, { MemorySwap: -1 }],
  [{ memory_reservation: 1_048_576 }, { MemoryReservation: 1_048_576 }],
  [{ cpus: "1.5" }, { NanoCpus: 1_500_000_000 }],
  [{ cpu_shares: 512 }, { CpuShares: 512 }],
  [{ cpuset_cpus: "0,1" }, { CpusetCpus: "0,1" }],
  [{ cpuset_mems: "0" }, { CpusetMems: "0" }],
  [{ cgroup_parent: "/ci" }, { CgroupParent: "/ci" }],
  [{ cap_add: ["NET_ADMIN"] }, { CapAdd: ["NET_ADMIN"] }],
  [{ cap_drop: ["ALL"] }, { CapDrop: ["ALL"] }],
  [{ group_add: ["docker"] }, { GroupAdd: ["docker"] }],
  [{ devices: ["/dev/kvm"] }, { Devices: [KVM] }],
  [{ device_cgroup_rules: ["c 81:* rmw"] }, { DeviceCgroupRules: ["c 81:* rmw"] }],
  [{ gpus: "all" }, { DeviceRequests: [GPU] }],
  [{ ulimit: { nofile: "1024:2048" } }, { Ulimits: [{ Name: "nofile", Soft: 1024, Hard: 2048 }] }],
  [{ oom_kill_disable: true }, { OomKillDisable: true }],
  [{}, { OomScoreAdj: 500 }],
  [{ oom_score_adjust: -5 }, { OomScoreAdj: -5 }],
  [{ shm_size: "64m" }, { ShmSize: 67_108_864 }],
  [{ tmpfs: { "/scratch": "rw,size=1m" } }, { Tmpfs: { "/scratch": "rw,size=1m" } }],
  [{ sysctls: { "net.core.somaxconn": "9" } }, { Sysctls: { "net.core.somaxconn": "9" } }],
  [{ volumes_from: ["data:ro"] }, { VolumesFrom: ["data:ro"] }],
  [{ volume_driver: "local" }, { VolumeDriver: "local" }],
  [{ links: ["db:db"] }, { Links: ["db:db"] }],
  [{ dns: ["9.9.9.9"] }, { Dns: ["9.9.9.9"] }],
  [{ dns_search: ["example.com"] }, { DnsSearch: ["example.com"] }],
  [{ pid_mode: "host" }, { PidMode: "host" }],
  [{ ipcmode: "host" }, { IpcMode: "host" }],
  [{ userns_mode: "host" }, { UsernsMode: "host" }],
  [{ runtime: "runsc" }, { Runtime: "runsc" }],
  [
    { log_options: { "max-file": "2" } },
    { LogConfig: { Type: "json-file", Config: { "max-size": "50m", "max-file": "2" } } },
  ],
])("a job's container with %j asks for %j", (table, expected) => {
  expect(job(table).HostConfig).toMatchObject(expected);
});

test.each<[Table, Table]>([
  [{ service_memory: "512m" }, { Memory: 536_870_912 }],
  [{ service_memory_swap: "-1" }, { MemorySwap: -1 }],
  [{ service_memory_reservation: "1m" }, { MemoryReservation: 1_048_576 }],
  [{ service_cpus: "0.5" }, { NanoCpus: 500_000_000 }],
  [{ service_cpu_shares: 2 }, { CpuShares: 2 }],
  [{ service_cpuset_cpus: "1" }, { CpusetCpus: "1" }],
  [{ service_cpuset_mems: "0" }, { CpusetMems: "0" }],
  [{ service_cgroup_parent: "/services" }, { CgroupParent: "/services" }],
  [{ service_gpus: "all" }, { DeviceRequests: [GPU] }],
  [{ services_tmpfs: { "/data": "rw" } }, { Tmpfs: { "/data": "rw" } }],
  [{ extra_hosts: ["a:1.2.3.4"] }, { ExtraHosts: ["a:1.2.3.4"] }],
  [
    { dns: ["9.9.9.9"], runtime: "runsc" },
    { Dns: ["9.9.9.9"], Runtime: "runsc" },
  ],
])("a service's container with %j asks for %j", (table, expected) => {
  expect(service(table).HostConfig).toMatchObject(expected);
});

test("what is not set is left to the engine, and neither kind gets the other's share", () => {
  const { HostConfig } = job({ service_memory: "1m", services_tmpfs: { "/x": "" }, service_gpus: "all" });
  expect(HostConfig).toEqual({
    RestartPolicy: { Name: "no" },
    LogConfig: { Type: "json-file", Config: { "max-size": "50m" } },
    Privileged: false,
    OomScoreAdj: 500,
    NetworkMode: "net",
  });
  const other = service({ memory: "1m", cap_add: ["ALL"], devices: ["/dev/kvm"], tmpfs: { "/x": "" }, gpus: "all" });
  expect(other.HostConfig).toEqual(HostConfig);
});

test("user, entrypoint, variables, mounts and labels stand where the engine looks for them", () => {
  const body = job(
    { container_labels: { team: "a", ours: "forged" } },
    {
      user: "7:8",
      entrypoint: [""],
      env: ["A=1"],
      binds: ["v:/builds"],
      securityOpt: ["no-new-privileges"],
      privileged: true,
    },
  );
  expect(body).toMatchObject({
    Image: "sha256:1",
    User: "7:8",
    Entrypoint: [""],
    Cmd: ["sh"],
    Env: ["A=1"],
    Labels: { team: "a", ours: "1" },
    Hostname: "host",
    OpenStdin: true,
    Tty: false,
    HostConfig: { Binds: ["v:/builds"], SecurityOpt: ["no-new-privileges"], Privileged: true },
  });
  expect(job({})).not.toHaveProperty("Entrypoint");
  expect(job({})).not.toHaveProperty("User");
  expect(service({}, { command: ["run"], entrypoint: ["/init"], devices: [] })).toMatchObject({
    Cmd: ["run"],
    Entrypoint: ["/init"],
  });
});

test("a container in another one's network brings nothing that belongs to the network", () => {
  const table = {
    dns: ["9.9.9.9"],
    dns_search: ["example.com"],
    links: ["db:db"],
    mac_address: "02:00:00:00:00:01",
    sysctls: { "net.core.somaxconn": "9", "kernel.msgmax": "1" },
  };
  const body = job(table, { networkMode: "container:1", aliases: [], extraHosts: ["a:1.2.3.4"] });
  expect(body).not.toHaveProperty("Hostname");
  expect(body).not.toHaveProperty("MacAddress");
  expect(body).not.toHaveProperty("NetworkingConfig");
  for (const key of ["Dns", "DnsSearch", "Links", "ExtraHosts"]) expect(body.HostConfig).not.toHaveProperty(key);
  expect(body.HostConfig?.Sysctls).toEqual({ "kernel.msgmax": "1" });
  expect(job(table, { networkMode: "host", aliases: [] })).not.toHaveProperty("Hostname");
});

test("the network card's address stands where the daemon's version has it, and only for the build container", () => {
  const table = { mac_address: "02:00:00:00:00:01" };
  expect(job(table)).toMatchObject({
    MacAddress: "02:00:00:00:00:01",
    NetworkingConfig: { EndpointsConfig: { net: { Aliases: ["build"] } } },
  });
  const newer = job(table, { apiVersion: [1, 44] });
  expect(newer).not.toHaveProperty("MacAddress");
  expect(newer.NetworkingConfig?.EndpointsConfig?.net).toEqual({ Aliases: ["build"], MacAddress: "02:00:00:00:00:01" });
  expect(JSON.stringify(service(table))).not.toContain("02:00");
  expect(job(table, { networkMode: "bridge", aliases: [] })).toMatchObject({ MacAddress: "02:00:00:00:00:01" });
});

test("podman is not given a log size, and long host names are cut to what the kernel takes", () => {
  expect(job({}, { podman: true }).HostConfig?.LogConfig).toEqual({ Type: "json-file", Config: {} });
  expect(job({}, { hostname: "x".repeat(100) }).Hostname).toHaveLength(63);
});

test("a seccomp profile goes to the daemon as text, and one that cannot be read is named", async () => {
  const dir = mkdtempSync(join(tmpdir(), "alloy-seccomp-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, "profile.json");
  writeFileSync(file, '{ "defaultAction": "SCMP_ACT_ALLOW" }\n');
  expect(await inlineProfiles([`seccomp=${file}`, "seccomp=unconfined", "label=disable"])).toEqual([
    'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}',
    "seccomp=unconfined",
    "label=disable",
  ]);
  await expect(inlineProfiles([`seccomp=${dir}/none.json`])).rejects.toThrow(`${dir}/none.json`);
});
