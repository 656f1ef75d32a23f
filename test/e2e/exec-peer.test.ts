import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { linesOf, openProject, type Project } from "../support/project.ts";
import { states } from "../support/summary.ts";

/** Command lines and files of gitlab-ci-local. */

let project: Project;
beforeEach(async () => {
  project = await openProject();
  project.git("init", "--quiet", "--initial-branch=main");
  project.git("remote", "add", "origin", "git@git.example.com:group/project.git");
});
afterEach(async () => await project.close());

async function file(text: string, name: string = ".gitlab-ci.yml"): Promise<void> {
  await writeFile(join(project.dir, name), text);
}

test("its options mean what they mean there, and those that are not needed do nothing", async () => {
  await file(`
stages: [build, test]
build: {stage: build, script: ['echo "[$V] [\${CI_PROJECT_NAME-unset}]"']}
unit: {script: [echo unit], needs: [build]}
docs: {script: [echo docs], rules: [{changes: [docs/**/*]}], allow_failure: true}
never: {script: [echo x], rules: [{when: never}]}
`);
  project.git("add", ".");
  project.git("commit", "--quiet", "-m", "One");
  project.git("commit", "--quiet", "--allow-empty", "-m", "Two");
  const all = await project.exec(["--list-all"]);
  expect(all.stdout).toMatch(/^never +test +- /m);
  expect(JSON.parse((await project.exec(["--list-json"])).stdout)).toMatchObject([{ name: "build" }, { name: "unit" }]);
  const csv = await project.exec(["--list-csv-all", "--no-evaluate-rule-changes"]);
  expect(csv.stdout.trim().split("\n")).toEqual([
    "name;description;stage;when;allowFailure;needs",
    'build;"";build;on_success;false;',
    'unit;"";test;on_success;false;[build]',
    'docs;"";test;on_success;true;',
    'never;"";test;never;false;',
  ]);
  expect((await project.exec(["--preview"])).stdout).toContain("unit:\n");

  const needless = ["--shell-isolation", "--no-artifacts-to-source", "--cleanup=false", "--state-dir", "x", "--umask"];
  const run = await project.exec([
    "unit",
    "--needs",
    "--variable",
    "V=v",
    "--unset-variable",
    "CI_PROJECT_NAME",
    ...needless,
  ]);
  expect(states(run.stdout)).toEqual({ build: "success", unit: "success" });
  expect(linesOf("build", run.stdout)).toContain("[v] [unset]");
  expect(states((await project.exec(["unit", "--only-needs", "--concurrency", "2"])).stdout)).toEqual({
    build: "success",
  });
  const docker = await project.exec(["--list", "--volume", "/:/host"]);
  expect(docker.stderr).toContain("--volume is for jobs in containers");

  const { stdout } = await project.exec(["--cwd", "project", "--list"], { cwd: project.home });
  expect(stdout).toContain("unit");
  const env = { GCL_LIST_JSON: "true", GCL_VARIABLE: "A=1;B=2" };
  expect((await project.exec([], { env })).stdout).toContain('"name": "build"');
});

test("a project's own file of options reaches nothing of the person's", async () => {
  await file("j: {script: ['echo \"[$A] [$B]\"']}\n");
  await file(
    'VARIABLE="A=of file;B=b"\nCWD=/\nVOLUME=/:/host\nVARIABLES_FILE=../secrets.yml\n',
    ".gitlab-ci-local-env",
  );
  const { stdout, stderr } = await project.exec(["--variable", "B=typed"]);
  expect(linesOf("j", stdout)).toContain("[] [typed]");
  expect(stderr).toContain(".gitlab-ci-local-env: cwd is not taken from a file of the project");
  expect(stderr).toContain(".gitlab-ci-local-env: volume is not taken");
  expect(stderr).toContain(".gitlab-ci-local-env: variables-file is not taken");
  expect(linesOf("j", (await project.exec([])).stdout)).toContain("[of file] [b]");
  await file("VARIABLE=HOME\n", ".gitlab-ci-local-env");
  expect((await project.exec(["--list"])).stderr).toContain(".gitlab-ci-local-env: VARIABLE is NAME=value");
});

test("its files of variables: by environment, as files, of the person by project and group; the strongest wins", async () => {
  await file(`
j: {script: ['echo "[$PLAIN] [$SCOPED] [$OF_GLOBAL] [$OF_GROUP] [$OF_PROJECT] [$ELSEWHERE]"', 'cat "$KEPT"']}
prod: {script: ['echo "[$SCOPED]"'], environment: {name: prod/one}}
`);
  await file(
    "PLAIN: 7\nSCOPED: {values: {'prod/*': inside, '*': outside}}\nKEPT: ~/secret\n",
    ".gitlab-ci-local-variables.yml",
  );
  await writeFile(join(project.home, "secret"), "the content\n");
  await mkdir(join(project.home, ".gitlab-ci-local"));
  await writeFile(
    join(project.home, ".gitlab-ci-local", "variables.yml"),
    `
global: {OF_GLOBAL: global, PLAIN: weaker}
group: {git.example.com/group/: {OF_GROUP: group}, git.example.com/other/: {ELSEWHERE: x}}
project: {git.example.com/group/project.git: {OF_PROJECT: project}, git.example.com/group/not.git: {ELSEWHERE: x}}
`,
  );
  const own = await project.exec(["-j", "1"]);
  expect(linesOf("j", own.stdout)).toContain("[7] [outside] [global] [group] [project] []");
  expect(linesOf("j", own.stdout)).toContain("the content");
  expect(linesOf("prod", own.stdout)).toContain("[inside]");
  expect(linesOf("prod", (await project.exec(["prod", "--var", "SCOPED=typed"])).stdout)).toContain("[typed]");

  project.git("add", ".gitlab-ci-local-variables.yml");
  const tracked = await project.exec(["j"]);
  expect(tracked.stdout).not.toContain("the content");
  expect(tracked.stderr).toContain("git has this file, so");
});

test("lines NAME=value, another file, and one that is none", async () => {
  await file("j: {script: ['echo \"[$A]\"']}\n");
  await file("A=line\n", ".gitlab-ci-local-variables.yml");
  expect(linesOf("j", (await project.exec([])).stdout)).toContain("[line]");
  await file("A: other\n", "vars.yml");
  expect(linesOf("j", (await project.exec(["--variables-file", "vars.yml"])).stdout)).toContain("[other]");
  await file("A: [secret-of-mine]\n", "vars.yml");
  const wrong = await project.exec(["--variables-file", "vars.yml"]);
  expect(wrong.stderr).toContain("A is no variable");
  expect(wrong.stderr).not.toContain("secret-of-mine");
  expect(wrong.code).not.toBe(0);
});

test("its file of inputs gives those that the file declares; --quiet leaves only the table", async () => {
  await file(
    "spec: {inputs: {a: {}, n: {type: number, default: 1}}}\n---\nj: {script: ['echo \"$[[ inputs.a ]] $[[ inputs.n ]]\"']}\n",
  );
  expect((await project.exec(["--list"])).stderr).toContain('input "a" has no value');
  await file("_global: {a: kept, n: 7, other: x}\ncomponent: {b: 1}\n", ".gitlab-ci-local-inputs.yml");
  expect(linesOf("j", (await project.exec([])).stdout)).toContain("kept 7");
  await file("a: mine\n", "inputs.yml");
  const own = await project.exec(["--inputs-file", "inputs.yml", "--input", "n=2", "--quiet"]);
  expect(own.stdout).not.toContain("mine 2");
  expect(states(own.stdout)).toEqual({ j: "success" });
  expect((await project.exec(["--print", "--inputs-file", "inputs.yml", "--input", "n=2"])).stdout).toContain("mine 2");
  await file("- a\n", "inputs.yml");
  expect((await project.exec(["--inputs-file", "inputs.yml"])).stderr).toContain("inputs.yml is no table of inputs");
  expect((await project.exec(["--inputs-file", "none.yml"])).stderr).toContain("--inputs-file none.yml is not there");
});
