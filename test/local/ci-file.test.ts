import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ConfigError } from "../../src/errors.ts";
import { loadCiFile, parseCiFile } from "../../src/local/ci-file.ts";
import { runsOn } from "../../src/local/ci-refs.ts";

const parse = (text: string) => parseCiFile(text, ".alloy-ci.yml");

function complaint(text: string): { message: string; line: number | undefined } {
  try {
    parse(text);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    if (error instanceof ConfigError) return { message: error.message, line: error.line };
  }
  throw new Error("no complaint");
}

test("all keywords are read, in YAML with anchors and templates", () => {
  const file = parse(`
image: ruby:2.1
services: [postgres, {name: redis, alias: cache}]
stages: [build, check]
before_script: [./prepare]
after_script: [./tidy]
variables: {A: one, N: 5}
cache: {key: all, paths: [vendor/], policy: pull}

.template: &template
  tags: [linux]
  variables: {B: true}

compile:
  <<: *template
  stage: build
  script: [make]
  artifacts: {paths: [out/], expire_in: 1 week, untracked: "true"}
  only: [branches]
  except: [/^wip/]

unit:
  stage: check
  image: {name: node:24, entrypoint: [""]}
  services: []
  before_script: []
  after_script: echo bye
  script: [npm ci, npm test]
  cache: {}
  allow_failure: true
  when: always
  dependencies: [compile]

deploy:
  stage: check
  script: [./deploy]
  when: manual
  dependencies: []
`);
  expect(file.stages).toEqual(["build", "check"]);
  expect(file.warnings).toEqual([]);
  const [compile, unit, deploy] = file.jobs;
  expect(compile).toMatchObject({
    name: "compile",
    stage: "build",
    script: ["./prepare", "make"],
    afterScript: ["./tidy"],
    variables: { B: true },
    image: "ruby:2.1",
    services: ["postgres", { name: "redis", alias: "cache" }],
    artifacts: { paths: ["out/"], expire_in: "1 week", untracked: "true" },
    cache: { key: "all", paths: ["vendor/"], policy: "pull" },
    tags: ["linux"],
    only: ["branches"],
    except: ["/^wip/"],
    when: "on_success",
    allowFailure: false,
    dependencies: null,
    line: 14,
  });
  expect(unit).toMatchObject({
    script: ["npm ci", "npm test"],
    afterScript: "echo bye",
    variables: { A: "one", N: "5" },
    image: { name: "node:24", entrypoint: [""] },
    services: [],
    cache: {},
    tags: null,
    allowFailure: true,
    when: "always",
    dependencies: ["compile"],
  });
  expect(deploy).toMatchObject({ when: "manual", allowFailure: true, dependencies: null });
});

test("JSON is read too, tabs included, and stages and stage have defaults", () => {
  const file = parse('{\n\t"unit": {\n\t\t"script": ["true"],\n\t\t"variables": []\n\t}\n}\n');
  expect(file.stages).toEqual(["build", "test", "deploy"]);
  expect(file.jobs).toMatchObject([{ name: "unit", stage: "test", variables: {} }]);
});

describe("numbers are the text that stands in the file", () => {
  const written = { V: "3.0", ID: "1187654321098765432", E: "1e3", Z: "-0", H: "0x1F" };
  test.each([
    [
      ".alloy-ci.yml",
      "1.10: {script: [x], variables: &v {V: 3.0, ID: 1187654321098765432, E: 1e3, Z: -0, H: 0x1F}, cache: {key: 2.50, paths: [a]}, image: {name: a, docker: {user: 1000.0}}, services: [{name: b, variables: *v}], artifacts: {paths: [x], expire_in: 7200.0}}",
      written,
    ],
    [
      ".alloy-ci.json",
      '{"1.10": {"script": ["x"], "variables": {"V": 3.0, "ID": 1187654321098765432, "E": 1e3, "Z": -0}, "cache": {"key": 2.50, "paths": ["a"]}, "image": {"name": "a", "docker": {"user": 1000.0}}, "services": [{"name": "b", "variables": {"V": 3.0, "ID": 1187654321098765432, "E": 1e3, "Z": -0}}], "artifacts": {"paths": ["x"], "expire_in": 7200.0}}}',
      { V: "3.0", ID: "1187654321098765432", E: "1e3", Z: "-0" },
    ],
  ])("in %s", (name, text, variables) => {
    const { jobs, warnings } = parseCiFile(text, name);
    expect(warnings).toEqual([]);
    expect(jobs).toMatchObject([
      {
        name: "1.10",
        variables,
        cache: { key: "2.50" },
        image: { docker: { user: "1000.0" } },
        services: [{ variables }],
        artifacts: { expire_in: "7200.0" },
      },
    ]);
    expect(jobs[0]?.variables).toEqual(variables);
  });

  test("where text must stand a number is a mistake as before", () => {
    expect(() => parseCiFile("unit:\n  script: [3.0]\n", "f")).toThrow("unit.script[0] must be text, not the number 3");
  });
});

describe("mistakes are named with file, line, column and what was expected", () => {
  test.each([
    ["unit:\n  script: make\n", 2, '.alloy-ci.yml:2:11: unit.script must be a list of texts, not the text "make"'],
    ["unit:\n  script: [make, true]\n", 2, ".alloy-ci.yml:2:18: unit.script[1] must be text, not the boolean true"],
    ["unit:\n  stage: test\n", 1, '.alloy-ci.yml:1:1: job "unit" has no script'],
    ["unit:\n  scripts: [x]\n", 1, 'did you mean "script" where it says "scripts"?'],
    [
      "befor_script: [x]\nunit: {script: [x]}\n",
      1,
      '"befor_script" is not a keyword, and a job must be a table with a script; did you mean "before_script"?',
    ],
    [
      "unit:\n  script: [x]\n  stage: tset\n",
      3,
      '.alloy-ci.yml:3:10: stage "tset" of job "unit" is not one of build, test, deploy; did you mean "test"?',
    ],
    ["unit:\n  script: [x]\n  when: sometimes\n", 3, "unit.when must be on_success, on_failure, always or manual"],
    ["unit:\n  script: [x]\n  allow_failure: yes\n", 3, 'unit.allow_failure must be true or false, not the text "yes"'],
    [
      "unit:\n  script: [x]\n  variables:\n    A: [1]\n",
      4,
      "unit.variables.A must be text, a number, true or false, not a list",
    ],
    ["variables: [A]\nunit: {script: [x]}\n", 1, "variables must be a table of names and values, not a list"],
    [
      "unit:\n  script: [x]\n  image: {entrypoint: [x]}\n",
      3,
      "unit.image must be text, or a table with a name, not a table",
    ],
    ["unit:\n  script: [x]\n  services: postgres\n", 3, "unit.services must be a list of services"],
    ["unit:\n  script: [x]\n  artifacts: [out]\n", 3, "unit.artifacts must be a table, not a list"],
    [
      "unit:\n  script: [x]\n  cache: {policy: never}\n",
      3,
      "unit.cache.policy must be pull-push, pull or push, or a variable",
    ],
    [
      "unit:\n  script: [x]\n  dependencies: [compil]\ncompile: {script: [x]}\n",
      3,
      'and there is no such job; did you mean "compile"?',
    ],
    [
      "unit:\n  script: [x]\n  dependencies: [other]\nother: {script: [x]}\n",
      3,
      'depends on "other", which is not in an earlier stage',
    ],
    [
      "a: {script: [x]}\nb: {script: [x]}\na: {script: [x]}\n",
      3,
      '.alloy-ci.yml:3:1: "a" stands here for the second time',
    ],
    ["unit:\n  script: [x\n", 3, ".alloy-ci.yml:3:"],
    ["- unit\n", 1, "the file must be a table of jobs"],
    ["", 1, "the file must be a table of jobs"],
    [".hidden: {script: [x]}\n", 1, "there is no job in this file"],
    ["unit: &a {script: [x], variables: *b}\n", 1, "1:35: there is no anchor &b before this *b"],
    ["include: jobs.yml\nunit: {script: [x]}\n", 1, '"include" is GitLab\'s and AlloyCI does not know it'],
  ])("%j", (text, line, message) => {
    const found = complaint(text);
    expect(found.message).toContain(message);
    expect(found.line).toBe(line);
  });

  test("all of them at once", () => {
    const { message } = complaint("a:\n  script: x\nb:\n  stage: test\n");
    expect(message.split("\n")).toEqual([
      expect.stringContaining(":2:11: a.script must be"),
      expect.stringContaining(':3:1: job "b" has no script'),
    ]);
  });

  test("an explosion of aliases is refused", () => {
    const levels = Array.from(
      { length: 9 },
      (_, level) => `l${level + 1}: &l${level + 1} [${`*l${level}, `.repeat(9)}]`,
    );
    expect(complaint(`l0: &l0 [x]\n${levels.join("\n")}\n`).message).toMatch(/alias/i);
  });
});

test("what has no effect, or looks misspelt, is a warning", () => {
  const { warnings } = parse(
    "unit:\n  script: [x]\n  retry: 2\n  tag: [a]\n  artifacts:\n    path: [x]\n    reports: {}\n",
  );
  expect(warnings).toEqual([
    '.alloy-ci.yml:3:10: "retry" in job "unit" has no effect',
    '.alloy-ci.yml:4:3: "tag" in job "unit" has no effect; did you mean "tags"?',
    '.alloy-ci.yml:6:5: "path" in unit.artifacts is not known; did you mean "paths"?',
  ]);
});

test("only and except choose by kind of ref or by unanchored expressions", () => {
  const runs = (only: string[] | null, except: string[], ref: string) => runsOn({ only, except }, ref);
  expect(runs(null, [], "refs/heads/main")).toBe(true);
  expect(runs(["branches"], [], "refs/tags/v1")).toBe(false);
  expect(runs(["tags"], [], "refs/tags/v1")).toBe(true);
  expect(runs(["forks"], [], "someone:main")).toBe(true);
  expect(runs(["forks"], [], "refs/heads/a:b")).toBe(false);
  expect(runs(["master"], [], "refs/heads/my-master")).toBe(true);
  expect(runs(["^master$"], [], "refs/heads/master")).toBe(true);
  expect(runs(["(", "main"], ["("], "refs/heads/main")).toBe(true);
  expect(runs(["branches"], ["^wip"], "refs/heads/wip-1")).toBe(false);
  expect(runs([], [], "refs/heads/main")).toBe(false);
});

test("a project's .yml comes before its .json, and none at all is an error that names both", async () => {
  const dir = await mkdtemp(join(tmpdir(), "ci-file-"));
  try {
    await expect(loadCiFile(dir)).rejects.toThrow(/expected \.alloy-ci\.yml or \.alloy-ci\.json/);
    await writeFile(join(dir, ".alloy-ci.json"), '{"json": {"script": ["x"]}}');
    expect((await loadCiFile(dir)).jobs[0]?.name).toBe("json");
    await writeFile(join(dir, ".alloy-ci.yml"), "yaml: {script: [x]}");
    expect((await loadCiFile(dir)).jobs[0]?.name).toBe("yaml");
  } finally {
    await rm(dir, { recursive: true });
  }
});
