import { describe, expect, test } from "vitest";
import type { Job } from "../../src/job/job.ts";
import { formatDuration, parseDuration } from "../../src/job/plan/duration.ts";
import { readSettings } from "../../src/job/plan/settings.ts";
import { projectPathOf } from "../../src/job/sources/project-path.ts";
import { refOf } from "../../src/job/sources/refs.ts";
import { jobWith } from "./stand.ts";

function settingsOf(variables: Record<string, string>, job: Partial<Job> = {}): ReturnType<typeof readSettings> {
  return readSettings(jobWith(job), { get: (key) => variables[key], debugTraceDisabled: false });
}

describe("settings", () => {
  test("have their defaults", () => {
    const { warnings, problem, ...settings } = settingsOf({ GIT_DEPTH: " ", GIT_STRATEGY: "" });
    expect([warnings, problem]).toEqual([[], null]);
    expect(settings).toMatchObject({
      git: {
        strategy: "fetch",
        depth: 0,
        checkout: true,
        cleanFlags: ["-ffdx"],
        fetchFlags: ["--prune", "--quiet"],
        lfs: true,
        submodules: { strategy: "none", depth: 0, paths: [], updateFlags: [], forceHttps: false },
      },
      attempts: { getSources: 1, restoreCache: 1, downloadArtifacts: 1 },
      secrets: { attempts: 3, mustExist: true },
      artifactLevel: "default",
      scriptTimeoutMs: null,
      afterScriptTimeoutMs: 300_000,
      afterScriptIgnoreErrors: true,
      debugTrace: false,
      sslNoVerify: false,
    });
    expect(settingsOf({}, { allowGitFetch: false }).git.strategy).toBe("clone");
    expect(settingsOf({}, { git: { ...jobWith().git, depth: 20 } }).git.depth).toBe(20);
  });

  test("of GitLab's jobs: submodules have the job's depth, bundles are taken, and a wrong strategy ends the job", () => {
    const git = { ...jobWith().git, depth: 20 };
    const of = (variables: Record<string, string>) => settingsOf(variables, { dialect: "gitlab", git });
    expect(of({}).git).toMatchObject({ submodules: { depth: 20 }, bundleUris: true });
    expect(of({ GIT_SUBMODULE_DEPTH: "0", GIT_DEPTH: "3", FF_USE_GIT_BUNDLE_URIS: "false" }).git).toMatchObject({
      depth: 3,
      submodules: { depth: 0 },
    });
    expect(of({ FF_USE_GIT_BUNDLE_URIS: "false" }).git).not.toHaveProperty("bundleUris");
    expect(of({ GIT_SUBMODULE_STRATEGY: "odd" }).problem).toContain('GIT_SUBMODULE_STRATEGY is "odd"');
    expect(of({ FF_USE_GIT_BUNDLE_URIS: "perhaps" })).toMatchObject({
      warnings: ['FF_USE_GIT_BUNDLE_URIS is "perhaps", expected is true or false; true is used.'],
    });
    const entry = { get: () => "true", debugTraceDisabled: false, featureFlags: { FF_USE_GIT_BUNDLE_URIS: false } };
    expect(readSettings(jobWith({ dialect: "gitlab" }), entry).git).not.toHaveProperty("bundleUris");
  });

  test.each([
    ["GIT_DEPTH", "-1"],
    ["GIT_DEPTH", "1.5"],
    ["GIT_DEPTH", "99999999999999999999"],
    ["GIT_CHECKOUT", "yes"],
    ["GIT_SUBMODULE_STRATEGY", "all"],
    ["GET_SOURCES_ATTEMPTS", "many"],
    ["GIT_FETCH_EXTRA_FLAGS", "--upload-pack=touch pwned"],
    ["GIT_FETCH_EXTRA_FLAGS", "--quiet --uploa=x"],
    ["GIT_FETCH_EXTRA_FLAGS", "https://elsewhere/"],
    ["GIT_SUBMODULE_UPDATE_FLAGS", "--remote ;id"],
    ["GIT_CLONE_PATH", "/elsewhere"],
    ["RUNNER_SCRIPT_TIMEOUT", "soon"],
    ["RUNNER_AFTER_SCRIPT_TIMEOUT", "-5m"],
    ["RUNNER_AFTER_SCRIPT_TIMEOUT", "9999999h"],
    ["CI_DEBUG_TRACE", "2"],
  ])("%s=%s is a warning that names it", (key, value) => {
    const { warnings, problem } = settingsOf({ [key]: value });
    expect(problem).toBeNull();
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(key);
  });

  test.each([
    ["GIT_STRATEGY", "magic"],
    ["GET_SOURCES_ATTEMPTS", "0"],
    ["RESTORE_CACHE_ATTEMPTS", "11"],
    ["ARTIFACT_DOWNLOAD_ATTEMPTS", "-1"],
    ["ARTIFACT_DOWNLOAD_ATTEMPTS", "99999999999999999999"],
    ["CACHE_CHUNK_SIZE", "-1"],
    ["CACHE_CONCURRENCY", "-16"],
    ["CACHE_TRANSFER_BUFFER_SIZE", "-4194304"],
  ])("%s=%s fails the job with a message", (key, value) => {
    expect(settingsOf({ [key]: value }).problem).toContain(`${key} is "${value}", expected is `);
  });

  test("of how pieces of caches are moved are said to have no effect, once, unless they are the default", () => {
    const sizes = { CACHE_CHUNK_SIZE: "16777216", CACHE_CONCURRENCY: "0", CACHE_TRANSFER_BUFFER_SIZE: "many" };
    expect(settingsOf(sizes)).toMatchObject({
      problem: null,
      warnings: [expect.stringMatching(/^CACHE_CHUNK_SIZE, CACHE_TRANSFER_BUFFER_SIZE: no effect, /)],
    });
    expect(settingsOf({ CACHE_CONCURRENCY: "0" }).warnings).toEqual([]);
  });

  test("take limits as durations and never beyond the job's own", () => {
    expect(settingsOf({ RUNNER_SCRIPT_TIMEOUT: "1h30m" }, { timeoutMs: 7_200_000 }).scriptTimeoutMs).toBe(5_400_000);
    const cut = settingsOf(
      { RUNNER_SCRIPT_TIMEOUT: "3h", RUNNER_AFTER_SCRIPT_TIMEOUT: "0s" },
      { timeoutMs: 7_200_000 },
    );
    expect([cut.scriptTimeoutMs, cut.afterScriptTimeoutMs]).toEqual([7_200_000, 300_000]);
  });

  test("know none and flags", () => {
    const { git } = settingsOf({
      GIT_CLEAN_FLAGS: "none",
      GIT_FETCH_EXTRA_FLAGS: "none",
      GIT_STRATEGY: "Clone",
      GIT_CHECKOUT: "fAlSe",
    });
    expect(git).toMatchObject({ cleanFlags: null, fetchFlags: [], strategy: "clone", checkout: false });
    expect(settingsOf({ GIT_FETCH_EXTRA_FLAGS: "--tags -j 4 --filter=blob:none" }).git.fetchFlags).toEqual([
      "--tags",
      "-j",
      "4",
      "--filter=blob:none",
    ]);
  });
});

test.each([
  ["90m", 5_400_000],
  ["1h30m", 5_400_000],
  ["1.5h", 5_400_000],
  ["100ms", 100],
  ["0", 0],
  ["-5s", -5000],
  ["90", undefined],
  ["1d", undefined],
  ["", undefined],
])("the duration %s is %s ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test("durations are shown as Go shows them", () => {
  expect([250, 5000, 90_000, 3_600_000, 5_025_500].map(formatDuration)).toEqual([
    "250ms",
    "5s",
    "1m30s",
    "1h0m0s",
    "1h23m45.5s",
  ]);
});

test.each([
  ["refs/heads/main", "branch", "branch", "main"],
  ["refs/tags/v1", "branch", "tag", "v1"],
  ["v1", "tag", "tag", "v1"],
  ["feature/x", "branch", "branch", "feature/x"],
  ["mallory:feature/x", "branch", "fork", "mallory:feature/x"],
  ["refs/merge-requests/7/head", "branch", "other", "refs/merge-requests/7/head"],
  ["-f", "branch", "branch", "-f"],
  ["a..b", "branch", "none", "a..b"],
  ["x*", "branch", "none", "x*"],
  ["", "branch", "none", ""],
] as const)("the ref %j is a %s %s", (ref, refType, kind, name) => {
  expect(refOf({ ref, refType })).toEqual({ kind, name });
});

test.each([
  ["https://token@github.com/acme/widget.git", "acme/widget"],
  ["https://github.com/acme/.github.git", "acme/.github"],
  ["git@github.com:acme/widget.git", "acme/widget"],
  ["ssh://git@host:22/a/b/c.git/", "a/b/c"],
  ["file:///srv/git/widget.git", "srv/git/widget"],
  ["/srv/git/widget", "srv/git/widget"],
  ["https://host/a..b/c", "a..b/c"],
  ["https://host/a/../../etc", "project-5"],
  ["https://host/%2e%2e/%2E%2e/etc", "project-5"],
  ["https://host/", "project-5"],
  ["", "project-5"],
  ["nonsense", "project-5"],
  [`https://host/${"x/".repeat(2000)}y`, "project-5"],
])("the place of %s is %s", (repoUrl, path) => {
  expect(projectPathOf(jobWith({ git: { ...jobWith().git, repoUrl } }))).toBe(path);
});

test("names that cannot be directories get others, each project its own", () => {
  const place = (repoUrl: string, more: Partial<Job> = {}): string =>
    projectPathOf(jobWith({ git: { ...jobWith().git, repoUrl }, ...more }));
  const paths = [
    "https://h/a b/c",
    "https://h/a%20b/c",
    "https://h/a_b/c",
    "https://h/-a/c",
    "https://h/_a/c",
    "https://h/a/.git/x",
    `https://h/${"y".repeat(300)}`,
    `https://h/${"y".repeat(301)}`,
  ].map((url) => place(url));
  expect(new Set(paths).size).toBe(paths.length - 1);
  for (const path of paths) {
    expect(path).not.toMatch(/(?:^|\/)(?:-|\.git\/)|[ '"$]/);
    expect(Math.max(...path.split("/").map((part) => Buffer.byteLength(part)))).toBeLessThanOrEqual(255);
  }
  expect(place("", { projectId: "0", id: "9" })).toBe("project-job-9");
  expect(place("", { projectId: "../x", id: "9" })).toBe("project-job-9");
});
