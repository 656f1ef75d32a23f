import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { projectAddress, readRemote } from "../../../src/local/gitlab/around/facts.ts";
import { environmentSlug, groupName, predefinedVariables, slug } from "../../../src/local/gitlab/around/predefined.ts";
import { patternOf } from "../../../src/local/gitlab/decide/regex.ts";
import { chooseJobs } from "../../../src/local/gitlab/plan/choose.ts";
import { searchCoverage } from "../../../src/local/gitlab/run/coverage.ts";
import { criticalPath } from "../../../src/local/gitlab/run/critical-path.ts";
import { readDotenv, reportedBy } from "../../../src/local/gitlab/run/dotenv.ts";
import { composite, moveOf, type Standing } from "../../../src/local/gitlab/run/schedule.ts";
import { planOf } from "./stand.ts";

/** `failed?` means a failure that counts as success. */
function standings(text: string): Standing[] {
  return text.split(", ").map((word): Standing => {
    const state = word.replace("?", "");
    const known: readonly Standing["state"][] = [
      "created",
      "running",
      "success",
      "failed",
      "canceled",
      "skipped",
      "manual",
      "scheduled",
    ];
    const found = known.find((one) => one === state);
    if (found === undefined) throw new Error(`no state ${state}`);
    return { state: found, forgiven: word.endsWith("?") };
  });
}

describe("T106: what several jobs are together", () => {
  test.each([
    ["success, skipped", "success", "skipped"],
    ["skipped", "skipped", "skipped"],
    ["failed?, success", "success", "success"],
    ["failed?, failed?", "success", "success"],
    ["canceled?", "success", "success"],
    ["failed, skipped", "failed", "skipped"],
    ["failed, manual?", "failed", "skipped"],
    ["success, created, skipped", "running", "skipped"],
    ["manual?, success", "success", "skipped"],
    ["manual?", "skipped", "skipped"],
    ["failed, manual", "manual", "manual"],
    ["canceled, skipped", "canceled", "skipped"],
    ["canceled, failed", "failed", "failed"],
    ["created, failed?", "created", "created"],
    ["running, failed", "running", "running"],
    ["scheduled, success", "scheduled", "scheduled"],
    ["success, created", "running", "running"],
  ])("%s: %s for stages, %s for needs", (text, ofStages, ofNeeds) => {
    expect(composite(standings(text), false)).toBe(ofStages);
    expect(composite(standings(text), true)).toBe(ofNeeds);
  });
  test("none at all", () => expect(composite([], true)).toBe("success"));
});

test.each([
  ["on_success", "skipped", false, "start"],
  ["on_success", "skipped", true, "skip"],
  ["on_success", "failed", false, "skip"],
  ["on_success", "manual", false, "wait"],
  ["on_failure", "failed", false, "start"],
  ["on_failure", "success", false, "skip"],
  ["always", "skipped", true, "start"],
  ["always", "canceled", false, "skip"],
  ["manual", "failed", false, "skip"],
  ["delayed", "success", false, "start"],
] as const)("%s after %s (needs: %s): %s", (when, before, asNeeds, move) => {
  expect(moveOf(when, before, asNeeds)).toBe(move);
});

test("T76: dotenv reports", () => {
  expect(readDotenv('A="x"\nB=b=c\n C = d \n')).toEqual(
    new Map([
      ["A", '"x"'],
      ["B", "b=c"],
      ["C", "d"],
    ]),
  );
  expect(readDotenv("A=1\n\nB=2\n")).toBe("line 2 is not NAME=value");
  expect(readDotenv("# a=b\n")).toBe("line 1 is not NAME=value");
  expect(readDotenv(Array.from({ length: 21 }, (_, index) => `V${index}=x`).join("\n"))).toContain("20 is the limit");
  expect(readDotenv(`A=${"x".repeat(5200)}`)).toContain("not smaller than 5120 bytes");
});

test("a dotenv report that unpacks to a lot, or is no gzip, is refused and not kept in memory", async () => {
  const dir = await mkdtemp(join(tmpdir(), "alloy-dotenv-"));
  try {
    const report = async (name: string, content: Buffer) => {
      await writeFile(join(dir, name), content);
      return await reportedBy([{ type: "dotenv", path: join(dir, name) }]);
    };
    expect(await report("good", gzipSync("A=1\n"))).toEqual({ variables: new Map([["A", "1"]]) });
    const refused = { problem: "it is no gzip, or not smaller than 5120 bytes" };
    expect(await report("large", gzipSync(Buffer.alloc(1_000_000)))).toEqual(refused);
    expect(await report("other", Buffer.from("A=1\n"))).toEqual(refused);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test("T78: slugs", () => {
  expect(["production", "review/my-branch", "Staging", "1.2"].map(environmentSlug)).toEqual([
    "production",
    "review-my-branch-add4nu",
    "staging-p75vhx",
    "env-1-2-8vws5s",
  ]);
  expect(slug("Feature/ÄB_c-")).toBe("feature--b-c");
  expect(["a: [b, c]", "a 1/3", "a 1 3", "a 1:3", "a 1\\3", "a"].map(groupName)).toEqual([
    "a",
    "a",
    "a",
    "a",
    "a",
    "a",
  ]);
});

test("T79: what a push, a tag and a merge request know", () => {
  const facts = {
    sha: "a".repeat(40),
    parent: "b".repeat(40),
    message: "title\n\nbody\n",
    author: "A <a@example.com>",
    timestamp: "2024-01-01T00:00:00Z",
    defaultBranch: "main",
    remote: { host: "git.example.com", path: "Group/sub/name", address: "git@git.example.com:Group/sub/name" },
    user: { login: "me", name: "", email: "" },
    files: [],
    untracked: [],
  };
  const given = { facts, source: "push", target: undefined, folder: "dir", projectId: 7, configPath: ".gitlab-ci.yml" };
  const push = predefinedVariables({ ...given, ref: "main", refType: "branch" });
  expect(push.get("CI_COMMIT_BRANCH")).toBe("main");
  expect(push.get("CI_COMMIT_BEFORE_SHA")).toBe("b".repeat(40));
  expect(push.get("CI_COMMIT_DESCRIPTION")).toBe("body");
  expect(push.get("CI_PROJECT_NAMESPACE")).toBe("Group/sub");
  // Rules ask for these, too.
  expect([push.get("CI"), push.get("GITLAB_CI"), push.get("CI_SERVER_NAME")]).toEqual(["true", "true", "GitLab"]);
  expect(push.get("CI_SERVER_VERSION_MAJOR")).toBe(push.get("CI_SERVER_VERSION")?.split(".")[0]);
  expect(push.has("CI_COMMIT_TAG")).toBe(false);
  const tag = predefinedVariables({ ...given, ref: "v1", refType: "tag" });
  expect([tag.has("CI_COMMIT_BRANCH"), tag.get("CI_COMMIT_TAG")]).toEqual([false, "v1"]);
  const merge = predefinedVariables({
    ...given,
    source: "merge_request_event",
    ref: "f",
    refType: "merge_request",
    target: { branch: "main", base: "c" },
  });
  expect([merge.has("CI_COMMIT_BRANCH"), merge.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME")]).toEqual([false, "main"]);
});

test.each([
  ["git@git.example.com:group/name.git", "git.example.com", "group/name"],
  ["https://user:secret@git.example.com:8443/a/b/c", "git.example.com:8443", "a/b/c"],
  ["ssh://git@git.example.com:2222/a/b.git", "git.example.com", "a/b"],
])("%s", (address, host, path) => {
  expect(readRemote(address)).toEqual({ host, path, address });
});
test.each([
  ["git@git.example.com:group/name.git", "git@git.example.com:other/one.git"],
  ["https://user:secret@git.example.com:8443/a/b/c", "https://user:secret@git.example.com:8443/other/one.git"],
  ["ssh://git@git.example.com:2222/a/b.git", "ssh://git@git.example.com:2222/other/one.git"],
  ["/srv/git/a.git", "https://git.example.com/other/one.git"],
  [null, "https://git.example.com/other/one.git"],
])("another project of the server of %s", (address, other) => {
  expect(projectAddress(address, "git.example.com", "other/one")).toBe(other);
});
test("a directory is no server", () => {
  expect(readRemote("/srv/git/a.git")).toBeNull();
});

test("names, instances, patterns, stages and what is needed", async () => {
  const plan = await planOf(`
build: {stage: build, script: [x], artifacts: {paths: [a]}}
lint: {stage: build, script: [x]}
test: {script: [x], parallel: {matrix: [{OS: [linux, mac], V: 20}]}}
last: {script: [x], needs: [lint]}
`);
  const names = (...typed: string[]) => {
    const choice = chooseJobs(plan, { names: typed, stages: [], withNeeds: false });
    return "chosen" in choice ? [...choice.chosen] : choice.unknown;
  };
  expect(names("test: [linux, 20]")).toEqual(["test: [linux, 20]"]);
  expect(names("test")).toEqual(["test: [linux, 20]", "test: [mac, 20]"]);
  expect(names("l*")).toEqual(["lint", "last"]);
  expect(names("nope")).toBe("nope");
  const stage = chooseJobs(plan, { names: [], stages: ["build"], withNeeds: false });
  expect("chosen" in stage ? [...stage.chosen] : stage).toEqual(["build", "lint"]);
  const needed = chooseJobs(plan, { names: ["last", "test: [mac, 20]"], stages: [], withNeeds: true });
  expect("chosen" in needed ? [...needed.chosen].sort() : needed).toEqual(["build", "last", "lint", "test: [mac, 20]"]);
});

test("the longest way", () => {
  const timed = (name: string, before: string[], startedAt: number, endedAt: number) => ({
    name,
    before,
    startedAt,
    endedAt,
  });
  const jobs = [
    timed("a", [], 0, 1000),
    timed("b", [], 0, 3000),
    timed("c", ["a"], 1000, 2000),
    timed("d", ["b", "c"], 3000, 4500),
  ];
  expect(criticalPath(jobs)).toBe("longest way: b → d (4.5 s)");
});

test.each<[string, string, number | undefined]>([
  ["/\\(\\d+\\.\\d+%\\) covered/", "(1.5%) covered, (97.31%) covered\nLine 12\n", 97.31],
  ["/Total: (\\d+)%|all (\\w+)/", "Total: 80%\nTotal: 91%", 91],
  ["/TOTAL.*? (100|\\d+)%$/", "TOTAL 20 1 95%\nTOTAL", 95],
  ["/covered/", "covered 5\n", undefined],
  ["/nothing/", "5%\n", undefined],
])("coverage by %s is the first number in the last match", (written, output, expected) => {
  const pattern = patternOf(written);
  if (pattern === null) throw new Error("no expression");
  const search = searchCoverage(pattern);
  for (const byte of Buffer.from(output)) search.write(Buffer.of(byte));
  expect(search.found()).toBe(expected);
});
