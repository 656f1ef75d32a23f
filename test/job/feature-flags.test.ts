import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Job } from "../../src/job/job.ts";
import { readSettings } from "../../src/job/plan/settings.ts";
import { measuresStages } from "../../src/job/plan/trace-wishes.ts";
import { cacheKeys, placeOf } from "../../src/transfer/cache/cache-keys.ts";
import { createRepository } from "./git-server.ts";
import { createStand, jobWith, step, variable } from "./stand.ts";

const stand = createStand();
afterAll(() => stand.close());

const IMAGE = { entrypoint: null, pullPolicies: [], user: null, platform: null };
const SERVICE = { ...IMAGE, aliases: [], command: null, variables: [] };

const variablesOf = (given: Readonly<Record<string, string>>) =>
  Object.entries(given).map(([key, value]) => variable(key, value));

describe("flags of a job that change nothing here", () => {
  const warningsOf = (given: Readonly<Record<string, string>>, more: Partial<Job> = {}, featureFlags = {}) =>
    readSettings(jobWith({ dialect: "gitlab", variables: variablesOf(given), ...more }), {
      get: (key) => given[key],
      debugTraceDisabled: false,
      featureFlags,
    }).warnings;

  test("are named in one sentence, each with why", () => {
    const [sentence = "", ...more] = warningsOf({
      FF_NETWORK_PER_BUILD: "false",
      FF_CONCRETE: "1",
      FF_USE_LEGACY_BASH_EVAL: "TRUE",
      FF_KUBERNETES_ODD: "t",
      FF_DISABLE_AUTOMATIC_TOKEN_ROTATION: "true",
      FF_USE_FASTZIP: "perhaps",
    });
    expect(more).toEqual([]);
    expect(sentence).toMatch(/^Feature flags without effect: FF_\w+=/);
    for (const part of [
      "FF_NETWORK_PER_BUILD=false (what it stands for is always on in this runner)",
      "FF_CONCRETE=true (what it stands for is always off in this runner)",
      "FF_USE_LEGACY_BASH_EVAL=true (there is nothing in this runner that it would change)",
      "FF_KUBERNETES_ODD=true (what it stands for is always off in this runner)",
      "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION=true (counts in [runners.feature_flags] only)",
      'FF_USE_FASTZIP="perhaps" (expected true or false)',
    ])
      expect(sentence).toContain(part);
  });

  test("are no others: what is so here, what an entry decides, a project's own names, and jobs of AlloyCI", () => {
    const off = { FF_NETWORK_PER_BUILD: "false" };
    expect(warningsOf({ FF_NETWORK_PER_BUILD: "true", FF_USE_FASTZIP: "1", FF_RESOLVE_FULL_TLS_CHAIN: "1" })).toEqual(
      [],
    );
    expect(warningsOf({ FF_NEW_CHECKOUT_PAGE: "on", FF_TIMESTAMPS: "0", FF_HASH_CACHE_KEYS: "1" })).toEqual([]);
    expect(warningsOf(off, {}, { FF_NETWORK_PER_BUILD: false })).toEqual([]);
    expect(warningsOf(off, { dialect: "alloy" })).toEqual([]);
  });

  test("a flag that counts and says neither yes nor no is named once, with what is used, wherever it is read", () => {
    expect(warningsOf({ FF_TIMESTAMPS: "maybe", FF_ENABLE_JOB_CLEANUP: "maybe" })).toEqual([
      'FF_TIMESTAMPS is "maybe", expected is true or false; true is used.',
      'FF_ENABLE_JOB_CLEANUP is "maybe", expected is true or false; false is used.',
    ]);
  });
});

describe("FF_ENABLE_JOB_CLEANUP", () => {
  const inner = createRepository(join(stand.dir, "inner"));
  const repository = createRepository(join(stand.dir, "outer"));
  repository.git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", inner.url, "sub");
  repository.commit({ ".gitignore": "ignored\n" });
  const git = { ...jobWith().git, repoUrl: repository.url, sha: repository.git("rev-parse", "HEAD") };
  const run = async (
    given: Readonly<Record<string, string>>,
    script: string,
    more: Partial<Job> = {},
    featureFlags: Readonly<Record<string, boolean>> = {},
  ) => {
    const variables = variablesOf({ FF_ENABLE_JOB_CLEANUP: "true", ...given });
    const steps = [step("script", [script, "echo AT=$CI_PROJECT_DIR"])];
    const ran = await stand.run(jobWith({ git, variables, steps, ...more }), {
      runner: { featureFlags, jobGitVariables: "all" },
    });
    const [, at = "nowhere"] = /^AT=(.*)$/m.exec(ran.trace) ?? [];
    return { ...ran, at };
  };
  const spoil = "echo x > file.txt; echo x > new; echo x > ignored; rm .gitignore";

  test("brings a fetched working copy back to its commit, as GIT_CLEAN_FLAGS say, and runs nothing that a job left", async () => {
    const canary = join(stand.dir, "canary");
    const hostile = [
      `git config core.fsmonitor 'touch ${canary}; false'`,
      `printf '#!/bin/sh\\ntouch ${canary}\\n' > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout`,
      "cd sub; echo x > file.txt; echo x > new; cd ..",
      "false",
    ];
    const given = { GIT_CLEAN_FLAGS: "-ffd", GIT_SUBMODULE_STRATEGY: "normal" };
    const environment = {
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "protocol.file.allow",
      GIT_CONFIG_VALUE_0: "always",
    };
    const { outcome, trace } = await run({ ...given, ...environment }, [spoil, ...hostile].join("\n"));
    expect(outcome).toMatchObject({ result: "failed", reason: "script_failure" });
    expect(trace).toContain("Cleaning up the project's directory");
    expect(trace).not.toContain("cleaning up failed");
    const { at } = await run({ GIT_STRATEGY: "none", FF_ENABLE_JOB_CLEANUP: "false" }, "true");
    expect((await readdir(at)).sort()).toEqual([".git", ".gitignore", ".gitmodules", "file.txt", "ignored", "sub"]);
    expect(await readFile(join(at, "file.txt"), "utf8")).toBe("one\n");
    expect((await readdir(join(at, "sub"))).sort()).toEqual([".git", "file.txt"]);
    expect(await readFile(join(at, "sub", "file.txt"), "utf8")).toBe("one\n");
    expect(existsSync(canary)).toBe(false);
  });

  test("removes what would be made anew, keeps all with strategy none, and is the entry's to decide, in both dialects", async () => {
    const kept = await run({ GIT_STRATEGY: "clone" }, spoil, {}, { FF_ENABLE_JOB_CLEANUP: false });
    expect(await readdir(kept.at)).toContain("new");
    const none = await run({ GIT_STRATEGY: "none" }, "true", { dialect: "gitlab" });
    expect(await readdir(none.at)).toContain("new");
    expect(none.trace).not.toContain("Removing");
    const gone = await run({ GIT_STRATEGY: "clone" }, spoil, { dialect: "gitlab" });
    expect(gone.outcome).toEqual({ result: "success" });
    expect(gone.trace).toContain("Removing the project's directory");
    expect(existsSync(gone.at)).toBe(false);
    const empty = await run(
      { GIT_STRATEGY: "empty", FF_ENABLE_JOB_CLEANUP: "0" },
      "echo > new",
      {},
      { FF_ENABLE_JOB_CLEANUP: true },
    );
    expect([empty.outcome, existsSync(empty.at)]).toEqual([{ result: "success" }, false]);
  });
});

describe("FF_HASH_CACHE_KEYS", () => {
  const cache = { untracked: false, paths: ["f"], policy: "pull-push", when: "on_success", fallbackKeys: [] } as const;

  test("keeps a cache by the hash of its key, whatever that has in it, and the trace has the key itself", async () => {
    const caches = [{ ...cache, key: "a/../b c" }];
    const given = { GIT_STRATEGY: "empty", FF_HASH_CACHE_KEYS: "true" };
    const run = (script: string, more: Readonly<Record<string, string>> = {}) =>
      stand.run(
        jobWith({ cache: caches, variables: variablesOf({ ...given, ...more }), steps: [step("script", [script])] }),
      );
    const saved = await run("echo 1 > f");
    expect(saved.trace).toContain("Saved cache a/../b c: 1 entries");
    const restored = await run("cat f");
    expect(restored.trace).toContain("Successfully restored cache a/../b c");
    expect((await run("cat f", { FF_HASH_CACHE_KEYS: "false" })).trace).toContain("There is no cache for b c yet");
  });

  test("has GitLab Runner's names, and jobs of another trust have other ones", () => {
    const hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    const project = { projectPath: "a/b", projectId: "7", hashed: true as const };
    expect(placeOf(project, "foo")).toEqual({
      projectPath: "a/b",
      projectId: "7",
      key: `2c/${hash}`,
      shownKey: "foo",
    });
    const request = { written: "x", jobName: "j", ref: "main", fallbackKeys: [], commonFallbackKey: undefined };
    const keyOf = (key: string, level: "project" | "protected") =>
      cacheKeys({ ...request, key, trust: { level, source: "" }, hashed: true }).key;
    expect(keyOf("x/../y", "project")).toBe("x/../y");
    expect(keyOf("x-protected", "project")).toBe("x-protected-non_protected");
    expect(keyOf("x", "protected")).toBe("x-protected");
    // Whose keys are not hashed has no way to where such caches are, by none of its keys.
    const place = `2c/${hash}`;
    const plain = { ...request, key: place, fallbackKeys: ["x"], trust: { level: "project", source: "" } } as const;
    expect(cacheKeys({ ...plain, commonFallbackKey: `${place.toUpperCase()}.` })).toMatchObject({
      key: `${place}-non_protected`,
      fallbacks: ["x", `${place.toUpperCase()}.-non_protected`],
    });
  });
});

test("FF_EXPORT_HIGH_CARDINALITY_METRICS decides whether stages are measured: the entry, the job, what surrounds it", () => {
  const FLAG = "FF_EXPORT_HIGH_CARDINALITY_METRICS";
  const measured = (job: string | undefined, entry?: boolean, dialect: Job["dialect"] = "gitlab", environment = "") =>
    measuresStages(
      { dialect, variables: job === undefined ? [] : variablesOf({ [FLAG]: job, OFF: "0" }) },
      {
        environment: environment === "" ? [] : [{ key: FLAG, value: environment }],
        debugTraceDisabled: false,
        featureFlags: entry === undefined ? {} : { [FLAG]: entry },
      },
    );
  expect([undefined, "true", "1", "", "odd"].map((value) => measured(value))).toEqual([true, true, true, true, true]);
  expect(["false", "0", "$OFF"].map((value) => measured(value))).toEqual([false, false, false]);
  expect([measured("false", true), measured("true", false), measured(undefined, false)]).toEqual([true, false, false]);
  expect([measured(undefined, undefined, "gitlab", "f"), measured("t", undefined, "gitlab", "f")]).toEqual([
    false,
    true,
  ]);
  expect([measured("false", undefined, "alloy"), measured(undefined, false, "alloy")]).toEqual([true, false]);
});

test("FF_LOG_IMAGES_CONFIGURED_FOR_JOB has the runner's log name the images of a job", async () => {
  const image = { ...IMAGE, name: "ruby:$VERSION" };
  const services = [{ ...SERVICE, name: "redis:7" }];
  const given = { GIT_STRATEGY: "none", VERSION: "3.3" };
  const logged = async (flag: string) => {
    const variables = variablesOf({ ...given, FF_LOG_IMAGES_CONFIGURED_FOR_JOB: flag });
    const ran = await stand.run(jobWith({ image, services, variables }));
    return ran.logged.filter(({ message }) => message === "an image of the job").map(({ fields }) => fields);
  };
  expect(await logged("true")).toEqual([{ image: "ruby:3.3" }, { service: "redis:7" }]);
  expect(await logged("false")).toEqual([]);
});
