import { describe, expect, test } from "vitest";
import { createIdentity } from "../../src/coordinator/identity.ts";
import {
  contentRange,
  failureReason,
  interval,
  nextByte,
  remoteStatus,
  runnerInfo,
  updateBody,
} from "../../src/coordinator/wire.ts";
import { info } from "./server.ts";

const identity = createIdentity({
  version: "2.0.0",
  revision: "1a2b3c4d",
  runtime: "bun1.4.4",
  platform: "win32",
  arch: "x64",
});

test("platform and architecture are spelled as Go spells them", () => {
  expect(identity.userAgent).toBe("alloy-runner 2.0.0 (1a2b3c4d; bun1.4.4; windows/amd64)");
  expect(identity).toMatchObject({ platform: "windows", architecture: "amd64" });
});

test("a job request never carries a key that would overwrite the runner's row at AlloyCI", () => {
  const keys = Object.keys(runnerInfo(identity, info));
  expect(keys.sort()).toEqual([
    "architecture",
    "executor",
    "features",
    "name",
    "platform",
    "revision",
    "shell",
    "version",
  ]);
});

test("what images and services can be told is said where there are any", () => {
  const featuresOf = (image: boolean, services: boolean) =>
    runnerInfo(identity, { ...info, features: { ...info.features, image, services } }).features;
  const told = { service_executor_opts: true, service_variables: true, service_multiple_aliases: true };
  expect(featuresOf(true, true)).toMatchObject({ image: true, services: true, image_executor_opts: true, ...told });
  const without = Object.keys(featuresOf(false, false));
  for (const bit of ["image_executor_opts", ...Object.keys(told)]) expect(without).not.toContain(bit);
});

test.each([
  ["running", "running"],
  ["canceling", "canceling"],
  ["cancelled", "canceling"],
  ["canceled", "gone"],
  ["failed", "gone"],
  ["success", "gone"],
  ["skipped", "gone"],
  ["Canceled ", "gone"],
  ["", "running"],
  ["whatever", "running"],
  [undefined, "running"],
])("Job-Status %s means %s", (word, status) => {
  expect(remoteStatus(word)).toBe(status);
});

describe("failure reasons", () => {
  test("are sent as they are where the coordinator lists them", () => {
    expect(failureReason("image_pull_failure", ["image_pull_failure"])).toBe("image_pull_failure");
    // Of a job that asks for what cannot be: a GitLab that repeats failures of the system would do so in vain.
    expect(failureReason("runner_configuration_error", ["runner_system_failure"])).toBe("script_failure");
  });
  test.each([
    ["script_failure", "script_failure"],
    ["runner_system_failure", "runner_system_failure"],
    ["job_execution_timeout", "job_execution_timeout"],
    ["image_pull_failure", "runner_system_failure"],
    ["runner_external_dependency_failure", "runner_system_failure"],
    ["runner_configuration_error", "runner_system_failure"],
    ["runner_interrupted", "runner_system_failure"],
    ["job_canceled", "script_failure"],
  ] as const)("%s is told as %s where it lists none", (reason, told) => {
    expect(failureReason(reason, [])).toBe(told);
  });
});

test("a final report holds what is known and nothing else", () => {
  const report = {
    state: "failed",
    reason: "script_failure",
    exitCode: 2,
    checksum: "crc32:1c291ca3",
    bytes: 9,
  } as const;
  expect(JSON.parse(updateBody("t", report, identity))).toMatchObject({
    token: "t",
    state: "failed",
    failure_reason: "script_failure",
    exit_code: 2,
    checksum: "crc32:1c291ca3",
    output: { checksum: "crc32:1c291ca3", bytesize: 9 },
  });
  const success = JSON.parse(updateBody("t", { state: "success", reason: "script_failure", exitCode: 0 }, identity));
  expect(Object.keys(success)).toEqual(["token", "state", "info"]);
});

test.each([
  [0, 10, "0-9"],
  [5, 1, "5-5"],
  [7, 0, "7-7"],
  [0, 0, "0-0"],
])("%d bytes from %d on are the range %s", (from, length, range) => {
  expect(contentRange(from, length)).toBe(range);
});

test.each([
  ["0-50", 50],
  ["0-0", 0],
  ["bytes 0-120", 120],
  ["0-150", 150],
  ["0-99999999999999999999999", 100],
  ["0-9999", 9999],
  ["", 100],
  [undefined, 100],
  ["0--5", 100],
  ["0-5x", 100],
  ["-5", 100],
])("after 416 with Range %s the next byte is %d", (range, next) => {
  expect(nextByte(range, "gitlab", 100)).toBe(next);
  expect(nextByte(range, "alloy", 100)).toBe(100);
});

test("intervals are kept within bounds", () => {
  const bounds = { leastMs: 100, mostMs: 10_000 };
  expect(["3", "0", "99999", "-1", "x", undefined, "1e9"].map((value) => interval(value, bounds))).toEqual([
    3000,
    100,
    10_000,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test("labels go with what the runner says of itself, where there are any", () => {
  const features = { variables: true, image: false, services: false, shared: true };
  const info = { executor: "shell", shell: "bash", features };
  expect(runnerInfo(identity, { ...info, labels: { location: "hall-2" } })).toMatchObject({
    labels: { location: "hall-2" },
  });
  expect(runnerInfo(identity, { ...info, labels: {} })).not.toHaveProperty("labels");
});
