import { execFileSync } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { linesOf, openProject, type Project } from "../support/project.ts";

let project: Project;
let server: string;
beforeEach(async () => {
  project = await openProject();
  server = join(project.home, "server");
  const other = join(server, "group/other.git");
  await mkdir(join(other, "templates"), { recursive: true });
  const git = (...args: string[]): string =>
    execFileSync("git", ["-C", other, "-c", "user.name=a", "-c", "user.email=a@example.com", ...args], {
      encoding: "utf8",
    });
  git("init", "--quiet", "--initial-branch=main");
  await writeFile(join(other, "ci.yml"), "include: more.yml\nshared: {script: [echo shared]}\n");
  await writeFile(join(other, "more.yml"), "more: {script: [echo more]}\n");
  await writeFile(
    join(other, "templates", "say.yml"),
    "spec: {inputs: {word: {}}, component: [version]}\n---\nsay: {script: ['echo $[[ inputs.word ]] of $[[ component.version ]]']}\n",
  );
  git("add", ".");
  git("commit", "--quiet", "-m", "One");
  git("tag", "1.4.0");
  project.git("init", "--quiet", "--initial-branch=main");
  project.git("remote", "add", "origin", "https://git.example.com/group/project.git");
  await writeFile(
    join(project.home, ".gitconfig"),
    `[url "file://${server}/"]\n  insteadOf = https://git.example.com/\n`,
  );
  await writeFile(
    join(project.dir, ".gitlab-ci.yml"),
    `include:
  - {project: Group/other, file: /ci.yml, ref: main}
  - {component: $CI_SERVER_FQDN/group/other/say@1, inputs: {word: hello}}
`,
  );
});
afterEach(async () => await project.close());

test("other projects and components are fetched with the person's own git, and are there offline", async () => {
  const first = await project.exec(["shared", "say"]);
  expect(first.stderr).toBe("");
  expect(linesOf("shared", first.stdout)).toContain("shared");
  expect(linesOf("say", first.stdout)).toContain("hello of 1.4.0");
  expect(first.code).toBe(0);
  await rm(server, { recursive: true });
  const offline = await project.exec(["--list", "--offline"]);
  expect(offline.stdout).toMatch(/^more /m);
  expect(offline.code).toBe(0);
  const online = await project.exec(["--list"]);
  expect(online.stderr).toMatch(/\.gitlab-ci\.yml:2:15: project "group\/other" is not there, or git may not read it/i);
  expect(online.code).not.toBe(0);
  expect((await project.exec(["--list", "--offline", "--fetch-includes"])).stderr).toContain("Choose one of");
});

test("T41: offline, what was never fetched is an error at its line", async () => {
  const { code, stderr } = await project.exec(["--list", "--offline"]);
  expect(stderr).toMatch(/\.gitlab-ci\.yml:2:15: project .* --offline says not to fetch it: run once without/);
  expect(stderr).toMatch(/\.gitlab-ci\.yml:3:17: component /);
  expect(code).not.toBe(0);
});
