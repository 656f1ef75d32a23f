import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { linesOf, openProject, type Project } from "../support/project.ts";
import { states } from "../support/summary.ts";

/** Cases of GitLab's rules that show only when a pipeline runs, and options that decide over it. */

let project: Project;
beforeEach(async () => {
  project = await openProject();
  project.git("init", "--quiet", "--initial-branch=main");
});
afterEach(async () => await project.close());

async function file(text: string, name: string = ".gitlab-ci.yml"): Promise<void> {
  await writeFile(join(project.dir, name), text);
}

test("a delayed job waits as long as start_in says and holds up what comes after it; --no-delay starts it at once", async () => {
  await file(`
stages: [one, two]
first: {stage: one, script: ['date +%s%N']}
late: {stage: one, script: ['date +%s%N'], when: delayed, start_in: 2 seconds}
next: {stage: two, script: ['date +%s%N']}
`);
  const seconds = (name: string, stdout: string): number =>
    Number(linesOf(name, stdout).find((line) => /^\d{18,}$/.test(line))) / 1e9;
  const waited = await project.exec(["-j", "2"]);
  expect(waited.stdout).toContain("late: starts in 2 s");
  expect(seconds("late", waited.stdout) - seconds("first", waited.stdout)).toBeGreaterThan(1.5);
  expect(seconds("next", waited.stdout)).toBeGreaterThan(seconds("late", waited.stdout));
  const atOnce = await project.exec(["--no-delay"]);
  expect(atOnce.stdout).not.toContain("starts in");
  expect(states(atOnce.stdout)).toEqual({ first: "success", late: "success", next: "success" });
});

test("T105: jobs of one resource group never run at the same time, in child pipelines neither", async () => {
  const alone = `script: ['mkdir "$PLACE"', sleep 0.4, 'rmdir "$PLACE"'], resource_group: place`;
  await file(`
a: {${alone}}
b: {${alone}}
child: {trigger: {include: child.yml, strategy: depend}}
`);
  await file(`c: {${alone}}\nd: {${alone}}\n`, "child.yml");
  const { code, stdout } = await project.exec(["-j", "4", "--var", `PLACE=${join(project.home, "place")}`]);
  expect(states(stdout)).toEqual({
    a: "success",
    b: "success",
    child: "success",
    "child / c": "success",
    "child / d": "success",
  });
  expect(code).toBe(0);
});

test("T101: a timeout is a failure that no exit code forgives", async () => {
  await file(`
slow: {script: [echo begun, sleep 600], timeout: 2 seconds, allow_failure: {exit_codes: [1, 143]}}
coded: {script: [exit 3], allow_failure: {exit_codes: [2, 3]}}
`);
  const { code, stdout } = await project.exec(["-j", "2"]);
  expect(states(stdout)).toEqual({ slow: "failed", coded: "failed" });
  expect(stdout).toMatch(/^slow .* job execution timeout$/m);
  expect(stdout).toMatch(/^coded .* 3 \(allowed to fail\)$/m);
  expect(code).toBe(1);
});

test("T104: on_job_failure: all cancels what runs, and what waits does not start", async () => {
  await file(`
workflow: {auto_cancel: {on_job_failure: all}}
stages: [one, two]
bad: {stage: one, script: ['while ! [ -e "$MARK" ]; do sleep 0.1; done', exit 4]}
long: {stage: one, script: ['touch "$MARK"', sleep 600]}
clean: {stage: two, script: [echo clean], when: always}
`);
  const { code, stdout } = await project.exec(["-j", "2", "--var", `MARK=${join(project.home, "mark")}`]);
  expect(states(stdout)).toEqual({ bad: "failed", long: "canceled", clean: "skipped" });
  expect(code).toBe(4);
});

test("T99, T107, T108: what waits for people and for failures", async () => {
  await file(`
stages: [one, two, three]
bad: {stage: one, script: [exit 1]}
gone: {stage: one, script: [echo x], when: on_failure, needs: []}
gate: {stage: one, script: [echo x], rules: [{when: manual}]}
fix: {stage: two, script: [echo x], when: on_failure}
both: {stage: two, script: [echo x], when: on_failure, needs: [bad, gone]}
always: {stage: three, script: [echo x], when: always}
`);
  const waits = await project.exec(["-j", "2"]);
  expect(states(waits.stdout)).toEqual({
    bad: "failed",
    gone: "skipped",
    gate: "manual",
    fix: "skipped",
    both: "skipped",
    always: "skipped",
  });
  expect(waits.code).toBe(1);
  const played = await project.exec(["-j", "2", "--manual", "gate"]);
  expect(states(played.stdout)).toEqual({
    bad: "failed",
    gone: "skipped",
    gate: "success",
    fix: "success",
    both: "skipped",
    always: "success",
  });
});

test("T100: needs: [] starts together with .pre", async () => {
  await file(`
stages: [one, last]
pre: {stage: .pre, script: ['while ! [ -e "$MARK" ]; do sleep 0.1; done']}
early: {stage: last, needs: [], script: ['touch "$MARK"']}
mid: {stage: one, script: [echo mid]}
`);
  const { code, stdout } = await project.exec(["-j", "2", "--var", `MARK=${join(project.home, "mark")}`]);
  expect(states(stdout)).toEqual({ pre: "success", mid: "success", early: "success" });
  expect(code).toBe(0);
});

test("--target is what a merge request is compared with; --ignore-workflow, --strict-manual and --verbose do as they say", async () => {
  await file(`
workflow: {rules: [{if: '$CI_PIPELINE_SOURCE == "merge_request_event"'}]}
docs: {script: ['echo "to $CI_MERGE_REQUEST_TARGET_BRANCH_NAME"'], rules: [{changes: [docs.md]}]}
gate: {script: [echo gate], rules: [{when: manual}]}
`);
  const commit = async (name: string): Promise<void> => {
    await file("", name);
    project.git("add", ".");
    project.git("commit", "--quiet", "-m", name);
  };
  await commit("base");
  project.git("branch", "release");
  await commit("docs.md");
  project.git("checkout", "--quiet", "-b", "feature");
  await commit("other");
  const names = async (...args: string[]): Promise<string[]> => {
    const { stdout } = await project.exec(["--list", "--json", ...args]);
    return [...stdout.matchAll(/^ {4}"name": "(.*)"/gm)].flatMap((match) => match[1] ?? []);
  };
  const merging = ["--source", "merge_request_event"];
  expect(await names(...merging)).toEqual(["gate"]);
  expect(await names(...merging, "--target", "release")).toEqual(["docs", "gate"]);
  expect(linesOf("docs", (await project.exec([...merging, "--target", "release"])).stdout)).toContain("to release");
  expect((await project.exec(["--list", ...merging, "--target", "nope"])).stderr).toContain('no branch "nope"');

  expect(await names()).toEqual([]);
  expect(await names("--ignore-workflow")).toEqual(["gate"]);
  const strict = ["--ignore-workflow", "--strict-manual"];
  expect((await project.exec(["--ignore-workflow"])).code).toBe(0);
  expect((await project.exec(strict)).code).toBe(3);
  expect((await project.exec([...strict, "--manual", "all"])).code).toBe(0);
  const { stderr } = await project.exec(["--list", "--verbose"]);
  expect(stderr).toMatch(/note: Not set here: .*CI_REGISTRY_PASSWORD/);
  expect(stderr).not.toContain("CI_COMMIT_SHA");
});

test("inputs of jobs have defaults and are given as JOB:NAME=VALUE", async () => {
  await file(`
deploy:
  inputs: {place: {default: here, options: [here, there]}, times: {type: number, default: 1}}
  script: ['echo "to \${{ job.inputs.place }} \${{job.inputs.times}} times"']
`);
  expect(linesOf("deploy", (await project.exec([])).stdout)).toContain("to here 1 times");
  const given = await project.exec(["--input", "deploy:place=there", "--input", "deploy:times=2"]);
  expect(linesOf("deploy", given.stdout)).toContain("to there 2 times");
  expect((await project.exec(["--input", "deploy:place=nowhere"])).stderr).toContain('input "place" must be one of');
  expect((await project.exec(["--input", "none:place=x"])).stderr).toContain('there is no job "none"');
});
