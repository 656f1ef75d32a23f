import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { linesOf, openProject, type Project } from "../support/project.ts";
import { states } from "../support/summary.ts";

/** Child pipelines: T80, T93 and what is around them. */

let project: Project;
beforeEach(async () => {
  project = await openProject();
  project.git("init", "--quiet");
  project.git("symbolic-ref", "HEAD", "refs/heads/main");
  await mkdir(join(project.dir, "ci"));
});
afterEach(async () => await project.close());

async function file(text: string, name: string = ".gitlab-ci.yml"): Promise<void> {
  await writeFile(join(project.dir, name), text);
}

test("T80: a child gets the file's variables, expanded, and no predefined ones; they go one level deep", async () => {
  await file(`
variables: {ROOT: root, COPY: "$CI_COMMIT_BRANCH"}
child:
  variables: {OWN: "$ROOT own"}
  trigger: {include: ci/child.yml, strategy: depend}
bare:
  inherit: {variables: false}
  trigger: {include: {local: ci/bare.yml}, strategy: depend}
`);
  const print = (names: string) => `['echo "${names}"']`;
  await file(
    `
unit: {script: ${print("[$ROOT] [$COPY] [$OWN] [$CI_PIPELINE_SOURCE] [$LINE]")}}
ruled: {script: [echo x], rules: [{if: '$OWN == "root own"'}]}
out: {script: [echo x], rules: [{if: '$CI_PIPELINE_SOURCE == "push"'}]}
deep: {trigger: {include: ci/deep.yml, strategy: depend}}
handing: {trigger: {include: ci/handed.yml, strategy: depend, forward: {pipeline_variables: true}}}
`,
    "ci/child.yml",
  );
  const unset = (name: string): string => `[\${${name}-unset}]`;
  await file(`leaf: {script: ${print(`${unset("ROOT")}`)}}\n`, "ci/deep.yml");
  await file(`leaf: {script: ${print(`${unset("ROOT")}`)}}\n`, "ci/handed.yml");
  await file(`unit: {script: ${print(`${unset("ROOT")} [$LINE]`)}}\n`, "ci/bare.yml");
  const { code, stdout, stderr } = await project.exec(["--var", "LINE=line"]);
  expect(stderr).not.toMatch(/error/i);
  expect(linesOf("child / unit", stdout)).toContain("[root] [main] [root own] [parent_pipeline] [line]");
  expect(linesOf("child / deep / leaf", stdout)).toContain("[unset]");
  expect(linesOf("child / handing / leaf", stdout)).toContain("[root]");
  expect(linesOf("bare / unit", stdout)).toContain("[unset] [line]");
  const table = states(stdout);
  expect(table["child / ruled"]).toBe("success");
  expect(table).not.toHaveProperty("child / out");
  expect(code).toBe(0);
});

test("T93: without strategy a child's failure is its own; depend fails; mirror takes over what it is", async () => {
  await file(`
stages: [one, two]
alone: {stage: one, trigger: {include: ci/bad.yml}}
mirrored: {stage: one, trigger: {include: ci/gate.yml, strategy: mirror}, allow_failure: true}
forgiven: {stage: one, trigger: {include: ci/bad.yml, strategy: depend}, allow_failure: true}
none: {stage: one, trigger: {include: ci/none.yml, strategy: depend}, allow_failure: true}
after: {stage: two, script: [echo after]}
`);
  await file("bad: {script: [exit 7]}\n", "ci/bad.yml");
  await file("gate: {script: [echo x], when: manual, allow_failure: false}\n", "ci/gate.yml");
  await file("j: {script: [echo x], rules: [{if: $NOPE}]}\n", "ci/none.yml");
  const first = await project.exec([]);
  expect(states(first.stdout)).toEqual({
    alone: "success",
    "alone / bad": "failed",
    mirrored: "manual",
    "mirrored / gate": "manual",
    forgiven: "failed",
    "forgiven / bad": "failed",
    none: "failed",
    after: "success",
  });
  expect(first.stdout).toContain("blocked: mirrored / gate waits");
  expect(first.stdout).toContain("none: GitLab would not make its pipeline: no job is left");
  expect(first.code).toBe(0);

  await file("d: {trigger: {include: ci/bad.yml, strategy: depend}}\n");
  const second = await project.exec([]);
  expect(states(second.stdout)).toEqual({ d: "failed", "d / bad": "failed" });
  expect(second.code).toBe(7);
});

test("a child's file can be made by a job, takes inputs, and its jobs get artifacts from above", async () => {
  await file(`
stages: [make, run]
make:
  stage: make
  script: ["mkdir out", "printf 'include: ci/more.yml\\\\nmade: {script: [echo made]}\\\\n' > out/ci.yml"]
  artifacts: {paths: [out]}
run:
  stage: run
  variables: {ABOVE: $CI_PIPELINE_ID}
  trigger: {include: [{artifact: out/ci.yml, job: make}], strategy: depend}
given:
  stage: run
  trigger: {include: ci/inputs.yml, inputs: {word: hello}, strategy: depend}
lost:
  stage: run
  trigger: {include: [{artifact: out/none.yml, job: make}]}
  allow_failure: true
`);
  await file("got: {needs: [{pipeline: $ABOVE, job: make}], script: ['cat out/ci.yml']}\n", "ci/more.yml");
  await file("spec: {inputs: {word: {}}}\n---\nsay: {script: ['echo $[[ inputs.word ]]']}\n", "ci/inputs.yml");
  const { code, stdout } = await project.exec(["--artifacts", "../kept"]);
  expect(linesOf("run / got", stdout)).toContain("include: ci/more.yml");
  expect(linesOf("run / made", stdout)).toContain("made");
  expect(linesOf("given / say", stdout)).toContain("hello");
  expect(stdout).toContain("out/none.yml of the job make is not among the files that the job has uploaded");
  expect(states(stdout).lost).toBe("failed");
  expect(code).toBe(0);
  expect(await readdir(join(project.home, "kept"))).toEqual(["make"]);
});

test("lists and previews show what is known of children; too deep ones and wrong files are refused", async () => {
  await file(
    "child: {trigger: {include: ci/child.yml}}\nmade: {trigger: {include: [{artifact: a.yml, job: child}]}}\n",
  );
  await file("unit: {script: [echo here]}\ndeep: {trigger: {include: ci/deep.yml}}\n", "ci/child.yml");
  await file("most: {trigger: {include: ci/child.yml}}\nwrong: {trigger: {include: ci/none.yml}}\n", "ci/deep.yml");
  const list = (await project.exec(["--list"])).stdout;
  expect(list).toMatch(/^child \/ unit +test +on_success/m);
  expect(list).toMatch(/^child \/ deep \/ most .* child pipelines are at most 2 below one another$/m);
  expect(list).toMatch(/^made .* its pipeline is made by the job child$/m);
  const json: unknown = JSON.parse((await project.exec(["--list", "--json"])).stdout);
  expect(json).toMatchObject([
    { name: "child", child: [{ name: "unit" }, { name: "deep", child: [{ name: "most", child: null }, {}] }] },
    { name: "made", child: null },
  ]);
  const preview = (await project.exec(["--dry-run", "child"])).stdout;
  expect(preview).toContain("# job child starts a child pipeline");
  expect(preview).toContain("echo here");
});

test("Ctrl-C ends a child's jobs, too", async () => {
  await file("child: {trigger: {include: ci/child.yml, strategy: depend}}\n");
  await file("unit: {script: [echo begun, sleep 600]}\n", "ci/child.yml");
  const run = project.begin();
  await run.seen(/│ begun/);
  expect((await run.stop("SIGINT")).code).toBe(130);
});
