import { mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { linesOf, openProject, type Project } from "../support/project.ts";
import { states } from "../support/summary.ts";

let project: Project;
beforeEach(async () => {
  project = await openProject();
  project.git("init", "--quiet");
  project.git("symbolic-ref", "HEAD", "refs/heads/main");
});
afterEach(async () => await project.close());

async function file(text: string, name: string = ".gitlab-ci.yml"): Promise<void> {
  await writeFile(join(project.dir, name), text);
}

test("T53, T77, T94: a graph starts as it becomes ready, reports reach later jobs, the last table tells it all", async () => {
  await file(`
stages: [build, test, deploy]
variables: {GREETING: hello, FULL: "$GREETING world"}
make:
  stage: build
  script: ['echo "$FULL"', mkdir out, echo made > out/f, 'echo "V=told" > d.env']
  artifacts: {paths: [out], reports: {dotenv: d.env}}
slow:
  stage: build
  script: ['while ! [ -e "$MARK" ]; do sleep 0.1; done']
early:
  stage: test
  needs: [make]
  script: ['echo "V is $V, file is $(cat out/f)"', 'touch "$MARK"']
blind:
  stage: test
  needs: [{job: make, artifacts: false}]
  script: ['echo "blind [\${V-unset}] $(ls)"']
first:
  stage: deploy
  needs: []
  script: [echo first]
matrix:
  stage: test
  parallel: {matrix: [{OS: [linux, mac]}]}
  coverage: '/lines: (\\d+\\.\\d)%/'
  script: ['echo "on $OS $CI_NODE_INDEX/$CI_NODE_TOTAL"', 'echo "lines: 8$CI_NODE_INDEX.5%"']
none: {stage: test, script: ['echo never'], rules: [{if: $NOPE}]}
"x/../../y: [a]": {stage: test, dependencies: [], script: ['echo "files [$(ls)]"']}
`);
  const { code, stdout, stderr } = await project.exec([
    "-j",
    "4",
    "--var",
    `MARK=${join(project.home, "mark")}`,
    "--artifacts",
    "../kept",
  ]);
  expect(stderr).not.toMatch(/error/i);
  // `slow` ends only when \`early\`, of a later stage, has run.
  expect(linesOf("make", stdout)).toContain("hello world");
  expect(linesOf("early", stdout)).toContain("V is told, file is made");
  expect(linesOf("blind", stdout)).toContain("blind [unset]");
  expect(linesOf("matrix: [linux]", stdout)).toContain("on linux 1/2");
  expect(states(stdout)).toEqual({
    make: "success",
    slow: "success",
    early: "success",
    blind: "success",
    first: "success",
    "matrix: [linux]": "success",
    "matrix: [mac]": "success",
    "x/../../y: [a]": "success",
  });
  expect(stdout).toMatch(/^matrix: \[mac\] .* s +coverage 82\.5%$/m);
  expect(stdout).toMatch(/longest way: .+ → /);
  expect(code).toBe(0);
  expect((await readdir(join(project.home, "kept", "make"))).sort()).toEqual([".env.gz", "artifacts.zip"]);
  expect(await readdir(project.dir)).toEqual([".git", ".gitlab-ci.yml"]);
});

test("T82, T95–T97, T102: failures: on_failure, always, forgiven codes, retries, after_script, blocking and optional manual jobs", async () => {
  await file(`
stages: [build, test, deploy]
bad: {stage: build, script: [exit 3], allow_failure: {exit_codes: [2, 3]}, retry: {max: 1, exit_codes: 3}}
fail:
  stage: build
  script: ['secret=1', exit 1]
  after_script: ['echo "after $CI_JOB_STATUS [\${secret-gone}]"', exit 1]
same: {stage: build, script: [x], when: on_failure}
rescue: {stage: test, script: [echo rescued], when: on_failure}
deploy: {stage: deploy, script: [echo no]}
opt: {stage: test, script: [x], when: manual}
clean: {stage: .post, script: [echo cleaned], when: always}
`);
  const { code, stdout } = await project.exec([]);
  expect(states(stdout)).toEqual({
    bad: "failed",
    fail: "failed",
    same: "skipped",
    rescue: "success",
    deploy: "skipped",
    opt: "skipped",
    clean: "success",
  });
  expect(stdout).toContain("bad: try 2 of 2");
  expect(stdout).toContain("3 (allowed to fail)");
  expect(linesOf("fail", stdout)).toContain("after failed [gone]");
  expect(code).toBe(1);
});

test("T99: manual jobs wait, block, or are played", async () => {
  await file(`
stages: [build, test, deploy]
a: {stage: build, script: [echo a]}
gate: {stage: test, script: [echo open], rules: [{when: manual}]}
opt: {stage: test, script: [echo opt], when: manual}
dep: {stage: test, script: [echo dep], needs: [opt]}
late: {stage: deploy, script: [echo late]}
`);
  const blocked = await project.exec([]);
  expect(states(blocked.stdout)).toEqual({
    a: "success",
    gate: "manual",
    opt: "manual",
    dep: "skipped",
    late: "skipped",
  });
  expect(blocked.stdout).toContain("blocked: gate waits for somebody to start it");
  expect(blocked.code).toBe(0);
  const played = await project.exec(["--manual", "all"]);
  expect(states(played.stdout)).toEqual({
    a: "success",
    gate: "success",
    opt: "success",
    dep: "success",
    late: "success",
  });
  const named = await project.exec(["opt"]);
  expect(states(named.stdout)).toEqual({ opt: "success" });
});

test("a job that starts a pipeline of another project is in no table as one that went well", async () => {
  await file(`
stages: [build, test]
"other\\e[2J": {stage: build, trigger: group/project}
after: {stage: test, script: [echo after]}
`);
  const { code, stdout } = await project.exec([]);
  expect(states(stdout)).toEqual({
    "other\ufffd[2J": "not started here",
    after: "success",
  });
  expect(stdout).toContain("other\ufffd[2J: the pipeline of group/project is not started here");
  expect(stdout).not.toContain("\x1b[2J");
  expect(code).toBe(0);
});

test("--list --json has the fields, --all the absent, --print the whole file, a wrong file each finding", async () => {
  await mkdir(join(project.dir, "ci"));
  await file("image: alpine:3\n.base: {before_script: [echo b]}\n", "ci/base.yml");
  await file(`
include: ci/base.yml
j:
  extends: .base
  script: [echo j]
  services: [{name: redis:7, alias: r}]
  variables: {A: 1.10}
  retry: 2
  timeout: 1h 30m
  cache: {key: k, paths: [c]}
  artifacts: {paths: [o], reports: {dotenv: d}}
  environment: {name: prod/$CI_COMMIT_BRANCH}
  tags: [x]
  rules: [{if: '$CI_COMMIT_BRANCH == "main"', when: delayed, start_in: 5 minutes, allow_failure: true}]
k: {script: [echo k], rules: [{if: $NOPE}]}
`);
  const { stdout, code } = await project.exec(["--list", "--json"]);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toEqual([
    {
      name: "j",
      stage: "test",
      when: "delayed",
      allowFailure: true,
      needs: null,
      image: "alpine:3",
      services: ["redis:7"],
      script: ["echo b", "echo j"],
      afterScript: [],
      variables: { A: "1.1" },
      parallel: null,
      retry: 2,
      timeoutSeconds: 5400,
      startIn: 300,
      cache: [{ key: "k", paths: ["c"] }],
      artifacts: { paths: ["o"], dotenv: ["d"] },
      dependencies: null,
      environment: "prod/main",
      tags: ["x"],
      rule: 'rules[0] if: $CI_COMMIT_BRANCH == "main", when: delayed',
    },
  ]);
  expect((await project.exec(["--list", "--all"])).stdout).toMatch(/^k +test +- +no rule fits$/m);
  expect((await project.exec(["--list", "--source", "merge_request_event"])).stdout).not.toContain("j ");
  const printed = (await project.exec(["--print"])).stdout;
  expect(printed).toContain("# ci/base.yml:2\n.base:");
  expect(printed).toContain("# .gitlab-ci.yml:3\nj:");

  await file("workflow: {rules: [{if: $NOPE}]}\nj: {script: [x]}\n");
  const refused = await project.exec(["--list", "--json"]);
  expect([refused.code, refused.stdout.trim()]).toEqual([0, "[]"]);
  expect(refused.stderr).toContain("workflow:rules say no");
  expect((await project.exec([])).stderr).toContain("no pipeline: workflow:rules say no");

  await file("j:\n  script: [1]\nk: {}\n");
  const wrong = await project.exec(["--list", "--json"]);
  expect(wrong.code).not.toBe(0);
  expect(wrong.stderr).toContain(".gitlab-ci.yml:2:12: j: script must be a text");
  expect(wrong.stderr).toContain(".gitlab-ci.yml:3:1: jobs k config should implement");
});

test("an included address that is this machine's own is refused where it stands", async () => {
  await file("include:\n  - https://localhost/ci.yml\nj: {script: [x]}\n");
  const { code, stderr } = await project.exec(["--list"]);
  expect(stderr).toContain(".gitlab-ci.yml:2:5: https://localhost/ci.yml is not fetched");
  expect(code).not.toBe(0);
});

test("names out of the file move no cursor, whatever is shown", async () => {
  const name = "a\\e[2J\\u009b1A";
  await file(`"${name}": {stage: "test", variables: {V: "${name}"}, script: [echo x]}\n`);
  for (const flags of [["--list", "--all"], ["--list", "--json"], ["--print"], ["--dry-run"], ["a"], ["nope"], []]) {
    const { stdout, stderr } = await project.exec(flags);
    expect(stdout + stderr, flags.join(" ")).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/);
  }
  await file(`"${name}": {script: [echo x], needs: ["${name}x"]}\n`);
  const { stderr } = await project.exec([]);
  expect(stderr).toContain("undefined need: a\ufffd[2J\ufffd1Ax");
});

test("AlloyCI's file goes first and says so; --file takes the other", async () => {
  await project.ciFile("alloy: {script: [echo a]}\n");
  await file("gitlab: {script: [echo g]}\n");
  const both = await project.exec(["--list"]);
  expect(both.stdout).toContain("alloy");
  expect(both.stderr).toContain("--file .gitlab-ci.yml takes that");
  expect((await project.exec(["--list", "--file", ".gitlab-ci.yml"])).stdout).toContain("gitlab");
  expect((await project.exec(["--list", "--source", "web"])).stderr).toContain("--source: for .gitlab-ci.yml only");
});

test("changes of the working tree decide, inputs are given, the tree stays as it is", async () => {
  await file(`
spec: {inputs: {name: {}}}
---
"job-$[[ inputs.name ]]": {script: [echo x], rules: [{changes: [docs/**/*]}]}
other: {script: [echo x]}
`);
  project.git("add", ".");
  project.git("commit", "--quiet", "-m", "First");
  project.git("checkout", "--quiet", "-b", "feature");
  const list = async (...args: string[]): Promise<string[]> => {
    const { stdout } = await project.exec(["--list", "--json", "--input", "name=a", ...args]);
    return [...stdout.matchAll(/"name": "(.*)"/g)].flatMap((match) => match[1] ?? []);
  };
  expect(await list()).toEqual(["other"]);
  expect(await list("--changed", "docs/x/y")).toEqual(["job-a", "other"]);
  await mkdir(join(project.dir, "docs"));
  await writeFile(join(project.dir, "docs", "new.md"), "");
  expect(await list()).toEqual(["job-a", "other"]);
  expect(await list("--source", "schedule")).toEqual(["job-a", "other"]);
  expect((await project.exec(["--list"])).stderr).toContain('input "name" has no value');
  expect(await readFile(join(project.dir, ".gitlab-ci.yml"), "utf8")).toContain("spec:");
});

test("variables kept in the project are masked, weaker than the command line's, and git has to ignore them", async () => {
  await file("j: {script: ['echo \"[$KEPT] [$OTHER]\"']}\n");
  await file("KEPT=correct-horse-battery\nOTHER=file\n", ".alloy-exec.env");
  const open = await project.exec(["--var", "OTHER=line"]);
  expect(linesOf("j", open.stdout)).toContain("[[MASKED]] [line]");
  expect(open.stderr).toContain(".alloy-exec.env is not ignored by git");
  await file(".alloy-exec.env\n", ".gitignore");
  const ignored = await project.exec(["--list"]);
  expect(ignored.stderr).not.toContain("not ignored");

  await writeFile(join(project.home, "credentials"), "KEPT=of-the-person\n");
  await rm(join(project.dir, ".alloy-exec.env"));
  await symlink("../credentials", join(project.dir, ".alloy-exec.env"));
  const linked = await project.exec([]);
  expect(linked.stderr).toContain(".alloy-exec.env is a link out of the project, and not read");
  expect(linesOf("j", linked.stdout).filter((line) => line.startsWith("["))).toEqual(["[] []"]);
});
