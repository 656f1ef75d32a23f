import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse as parseToml } from "@iarna/toml";
import { expect, test } from "vitest";
import { dockerTable, tableShape } from "../../../executors/docker/settings/settings.ts";
import {
  parseCpus,
  parseDevice,
  parseGpus,
  parseUlimit,
  parseVolume,
} from "../../../executors/docker/settings/values.ts";

test.each([
  ["0.5", 500_000_000],
  ["0.25", 250_000_000],
  ["1/3", 333_333_333],
  ["1/8", 125_000_000],
  ["0.0001", 100_000],
  ["0.29", 290_000_000],
  ["2", 2_000_000_000],
  ["1/0", null],
  ["-1", null],
  ["half", null],
  ["1e9", null],
])("cpus %j are %j billionths", (text, nano) => {
  expect(parseCpus(text)).toBe(nano);
});

test("devices are mapped with their permissions", () => {
  const kvm = { hostPath: "/dev/kvm", containerPath: "/dev/kvm", permissions: "rwm" };
  expect(parseDevice("/dev/kvm")).toEqual(kvm);
  expect(parseDevice("/dev/a:/dev/b")).toEqual({ hostPath: "/dev/a", containerPath: "/dev/b", permissions: "rwm" });
  expect(parseDevice("/dev/a:/dev/b:r")).toEqual({ hostPath: "/dev/a", containerPath: "/dev/b", permissions: "r" });
  expect(parseDevice("/dev/kvm:rw")).toEqual({ ...kvm, permissions: "rw" });
  for (const bad of ["", "/a:/b:/c:/d", "/a:/b:x", ":/b"]) expect(parseDevice(bad), bad).toBeNull();
});

test("volumes keep source, target and mode apart, also with Windows drives", () => {
  expect(parseVolume("/cache")).toEqual({ source: null, target: "/cache", mode: "" });
  expect(parseVolume("/srv/c:/cache:ro,z")).toEqual({ source: "/srv/c", target: "/cache", mode: "ro,z" });
  expect(parseVolume("named:/cache")).toEqual({ source: "named", target: "/cache", mode: "" });
  expect(parseVolume("C:\\builds")).toEqual({ source: null, target: "C:\\builds", mode: "" });
  expect(parseVolume("C:\\a:D:\\b:ro")).toEqual({ source: "C:\\a", target: "D:\\b", mode: "ro" });
  for (const bad of ["", ":/a", "/a:", "/a:/b:/c:/d"]) expect(parseVolume(bad), bad).toBeNull();
});

test("GPUs are asked for as docker run does", () => {
  expect(parseGpus("all")).toMatchObject({ count: -1, capabilities: ["gpu"] });
  expect(parseGpus("2")).toMatchObject({ count: 2 });
  expect(parseGpus('"device=0,1"')).toMatchObject({ count: 0, deviceIds: ["0", "1"] });
  expect(parseGpus("count=1,capabilities=compute,utility")).toMatchObject({
    count: 1,
    capabilities: ["gpu", "compute", "utility"],
  });
  for (const bad of ["some", "count=1,device=0", "device=", ","]) expect(parseGpus(bad), bad).toBeNull();
});

test("limits have a soft and a hard side", () => {
  expect(parseUlimit("nofile", "1024:2048")).toEqual({ name: "nofile", soft: 1024, hard: 2048 });
  expect(parseUlimit("core", 0)).toEqual({ name: "core", soft: 0, hard: 0 });
  expect(parseUlimit("memlock", "-1")).toEqual({ name: "memlock", soft: -1, hard: -1 });
  for (const bad of ["2048:1024", "many", "-1:5", ""]) expect(parseUlimit("nofile", bad), bad).toBeNull();
});

test("an empty table has the documented defaults", () => {
  const settings = dockerTable.parse({});
  expect(settings.pullPolicies).toEqual(["always"]);
  expect(settings.waitForServicesMs).toBe(30_000);
  expect(settings.connection).toEqual({ host: "", tlsCertPath: "", tlsVerify: false });
  expect(settings.networkMode).toBeUndefined();
  expect(settings.servicesLimit).toBeNull();
  expect(settings.entrypointVariables).toBe("public");
  expect(settings.servicesEnvironmentExclude).toBeUndefined();
});

test("a helper image is a name, with a whole digest where it has one, or has variables in it", () => {
  const digest = `sha256:${"0".repeat(64)}`;
  for (const name of ["git", `a.example.com/git:1@${digest}`, digest, "git:$CI_RUNNER_VERSION", " "]) {
    expect(dockerTable.safeParse({ helper_image: name }).success, name).toBe(true);
  }
  for (const name of ["git@sha256:0123", "Git Hub/x", "git@"]) {
    expect(dockerTable.safeParse({ helper_image: name }).error?.issues[0]?.message, name).toMatch(/^expected the name/);
  }
  expect(dockerTable.parse({}).helperImage).toBeUndefined();
});

test("words for what an ENTRYPOINT sees are three, and a name that services do not get is not empty", () => {
  const complaint = dockerTable.safeParse({ entrypoint_variables: "some" }).error?.issues[0]?.message;
  expect(complaint).toBe('expected "public", "all", "none"');
  expect(dockerTable.safeParse({ services_environment_exclude: [""] }).success).toBe(false);
});

test("the forms of the Go runner and of GitLab Runner are taken", () => {
  const settings = dockerTable.parse({
    pull_policy: ["if-not-present", "always", "always"],
    services: [
      "postgres:16",
      { name: "redis:7", alias: "cache,queue", command: ["redis-server"], environment: ["A=b=c"] },
    ],
    memory: "512m",
    memory_swap: "-1",
    shm_size: 300_000,
    cpus: "1/2",
    wait_for_services_timeout: -1,
    privileged_images: ["docker:*"],
    allowed_privileged_images: ["podman:*"],
    ulimit: { nofile: "1024:2048" },
    runtime: "",
  });
  expect(settings.pullPolicies).toEqual(["if-not-present", "always"]);
  expect(settings.services[0]).toMatchObject({ name: "postgres:16", aliases: [], command: null });
  expect(settings.services[1]).toMatchObject({
    aliases: ["cache", "queue"],
    command: ["redis-server"],
    variables: [{ key: "A", value: "b=c" }],
  });
  expect(settings.limits).toMatchObject({ memoryBytes: 512 * 2 ** 20, memorySwapBytes: -1, nanoCpus: 500_000_000 });
  expect(settings.shmBytes).toBe(300_000);
  expect(settings.waitForServicesMs).toBeNull();
  expect(settings.privilegedImages).toEqual(["docker:*", "podman:*"]);
  expect(settings.runtime).toBeUndefined();
  expect(dockerTable.parse({ wait_for_services_timeout: 0 }).waitForServicesMs).toBe(30_000);
});

test.each([
  [{ pull_policy: "alway" }, /"always", "if-not-present", "never"/],
  [{ pull_policy: ["never", "x"] }, /expected/],
  [{ memory: "lots" }, /a size such as/],
  [{ cpus: "many" }, /processors/],
  [{ devices: ["a:b:c:d"] }, /device/],
  [{ volumes: ["a:b:c:d"] }, /volume/],
  [{ ulimit: { nofile: "x" } }, /limit/],
  [{ log_options: { "gelf-address": "udp://x" } }, /json-file/],
  [{ oom_score_adjust: 5000 }, /1000/],
])("%j is refused with what was expected", (table, message) => {
  const result = dockerTable.safeParse(table);
  expect(result.error?.issues.map((issue) => issue.message).join(" ")).toMatch(message);
});

test("every key of the example is one of the table, and the example is valid", () => {
  const example = readFileSync(join(import.meta.dirname, "../../../config.example.toml"), "utf8");
  const [, block = ""] = /# \[runners\.docker\]\n((?: {2}# {3}.*\n)+)/.exec(example) ?? [];
  const toml = block.replace(/^ {2}# {3}/gm, "");
  const keys = Object.keys(parseToml(toml));
  expect(dockerTable.safeParse(parseToml(toml)).error).toBeUndefined();
  const known = Object.keys(tableShape);
  expect(keys.filter((key) => !known.includes(key))).toEqual([]);
  const twins = /^service_|^allowed_privileged_images$/;
  expect(known.filter((key) => !keys.includes(key) && !twins.test(key))).toEqual([]);
});
