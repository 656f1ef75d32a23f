import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { runProgram } from "../support/program.ts";
import { openProject, type Project } from "../support/project.ts";

let project: Project;
beforeEach(async () => {
  project = await openProject();
  project.git("init", "--quiet", "--initial-branch=main");
});
afterEach(async () => await project.close());

async function lint(text: string, args: readonly string[] = [], name: string = ".gitlab-ci.yml") {
  await writeFile(join(project.dir, name), text);
  return await runProgram(["lint", name, ...args], { home: project.home, cwd: project.dir });
}

test("a CI file is checked and nothing of it is run", async () => {
  const good = await lint("j:\n  script: [touch ran]\n  variables: {V: 3.10}\n");
  expect(good.stdout).toContain(".gitlab-ci.yml: 1 jobs for a push of this branch");
  expect(good.stdout).toContain('.gitlab-ci.yml:3:18: 3.10 is the number 3.1 for GitLab: write "3.10" if it is a text');
  expect(good.stdout).toContain("nothing is wrong");
  expect(good.code).toBe(0);

  const wrong = await lint("j: {script: [1]}\nk: {}\n", ["--json"]);
  expect(JSON.parse(wrong.stdout)).toMatchObject({ errors: 2, warnings: 0 });
  expect(wrong.stdout).toContain(".gitlab-ci.yml:1:14: j: script must be a text");
  expect(wrong.code).toBe(1);
});

test("warnings count with --strict; a child's mistakes are among them", async () => {
  await writeFile(join(project.dir, "child.yml"), "j: {}\n");
  const text = "c: {trigger: {include: child.yml}}\n";
  const child = await lint(text);
  expect(child.stdout).toContain("c: child.yml:1:1: jobs j config should implement");
  expect(child.code).toBe(0);
  expect((await lint(text, ["--strict"])).code).toBe(1);
  const offline = await lint("include: https://example.com/a.yml\nj: {script: [x]}\n", ["--offline"]);
  expect(offline.stdout).toContain("--offline says not to fetch it");
  expect(offline.code).toBe(1);
});

test("AlloyCI's file is checked, too", async () => {
  const wrong = await lint("j: {scripts: [x]}\n", [], ".alloy-ci.yml");
  expect(wrong.stdout).toContain("script");
  expect(wrong.code).toBe(1);
  expect((await lint("j: {script: [x]}\n", [], ".alloy-ci.yml")).code).toBe(0);
});
