import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { linesOf, openProject, type Project } from "../support/project.ts";
import { pwshMissing } from "../support/pwsh.ts";
import { openSite } from "../support/site.ts";

/** Jobs whose shell is PowerShell, whole, with the built program: only the author's stages are in it. */

const missing = pwshMissing();
const engine = missing === null ? await testEngine("docker") : null;

let project: Project;
beforeEach(async () => {
  project = await openProject();
});
afterEach(async () => await project.close());

/** A pipeline with all stages, whose scripts would fail in another shell's language. */
const PIPELINE = `
stages: [build, test]
variables: {QUOTED: "it's \\"a\\" $(b) \`c\` %d%"}
compile:
  stage: build
  script:
    - $made = New-Item -ItemType Directory out, kept -Force; 'made ' + $made.Count
    - "'é-' + $QUOTED | Out-File out/file; Add-Content kept/n line"
    - Get-Content new
  after_script: ["'after ' + $env:CI_JOB_STATUS"]
  artifacts: {paths: [out/]}
  cache: {key: k, paths: [kept/]}
unit:
  script: [Get-Content out/file, "if (Test-Path kept) { throw 'kept' }"]
`;

async function expectPipeline(flags: readonly string[]): Promise<void> {
  await project.ciFile(PIPELINE);
  await writeFile(join(project.dir, "new"), "untracked\n");
  const { code, stdout, stderr } = await project.exec([...flags, "--shell", "pwsh"]);
  expect(code, stdout + stderr).toBe(0);
  expect(linesOf("compile", stdout)).toEqual(expect.arrayContaining(["made 2", "untracked", "after success"]));
  expect(linesOf("unit", stdout)).toContain('é-it\'s "a" $(b) `c` %d%');
}

describe("jobs in PowerShell on this machine", { timeout: 300_000 }, () => {
  if (missing !== null) {
    test.skip(missing, () => {});
    return;
  }

  test("a pipeline with uncommitted files, artifacts, a cache and after_script", async () => {
    await expectPipeline([]);
  });

  test("sources, artifacts and a cache in a builds directory with quotes, a dollar sign and a backtick", async () => {
    await writeFile(join(project.dir, "read-me"), "hello\n");
    project.git("init", "-q", "-b", "main");
    project.git("add", ".");
    project.git("commit", "-q", "-m", "one");
    const sha = project.git("rev-parse", "HEAD").trim();
    const buildsDir = join(project.home, 'it\'s "quoted" $HOME `id` [x]');
    const site = await openSite({
      dialect: "gitlab",
      entry: `shell = "pwsh"\nbuilds_dir = ${JSON.stringify(buildsDir)}`,
    });
    try {
      for (const round of ["1", "2"]) {
        const job = site.coordinator.enqueue({
          git: { repoUrl: `file://${project.dir}`, sha, ref: "main" },
          script: [
            "Get-Content -LiteralPath $CI_PROJECT_DIR/read-me; (Get-Location).ProviderPath -ceq $CI_PROJECT_DIR",
            '$null = [IO.Directory]::CreateDirectory("$CI_PROJECT_DIR/kept"); [IO.File]::AppendAllText("$CI_PROJECT_DIR/kept/n", \'x\'); "runs $([IO.File]::ReadAllText("$CI_PROJECT_DIR/kept/n").Length)"',
            "git rev-parse HEAD",
          ],
          cache: [{ key: "k", paths: ["kept/"], policy: "pull-push", untracked: false }],
          artifacts: [{ name: "a", paths: ["kept/"] }],
        });
        const { state } = await job.reported({ timeoutMs: 120_000 });
        expect(state, job.trace).toBe("success");
        const lines = job.trace.replaceAll("\r", "").split("\n");
        expect(lines).toEqual(expect.arrayContaining(["hello", "True", sha, `runs ${round}`]));
      }
    } finally {
      await site.close();
    }
    // No part of the directory's name was run or replaced.
    expect(execFileSync("ls", [project.home]).toString()).toContain('it\'s "quoted" $HOME `id` [x]\n');
  });
});

describe("jobs in PowerShell in containers", { timeout: 300_000 }, () => {
  if (missing !== null || engine === null) {
    test.skip(missing ?? noEngine("docker"), () => {});
    return;
  }
  beforeAll(async () => await engine.images("sh", "git", "pwsh"), 300_000);
  const flags = (image: string): string[] => [
    ...["--executor", "docker", "--docker-host", engine.host, "--docker-pull-policy", "never"],
    ...["--docker-image", image, "--docker-helper-image", imageName("git")],
  ];

  test("a pipeline with uncommitted files, artifacts, a cache and after_script", async () => {
    await expectPipeline(flags(imageName("pwsh")));
  });

  test("an image without it fails the job, and the sentence names both", async () => {
    await project.ciFile("a: {script: [\"'NO'\"]}");
    const { code, stdout } = await project.exec([...flags(imageName("sh")), "--shell", "pwsh"]);
    expect(code).not.toBe(0);
    expect(stdout).toContain(`The image ${imageName("sh")} has no pwsh on its PATH`);
    expect(stdout).not.toMatch(/│ NO$/m);
  });
});
