import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { chmod, chown, cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { LocalJob } from "../../src/local/coordinator/coordinator.ts";
import { program, runProgram } from "../support/program.ts";
import { openSite, type Site, type SiteOptions } from "../support/site.ts";
import { tree } from "../support/tree.ts";
import { processesWith } from "../support/watch-secrets.ts";

const closers: (() => Promise<unknown>)[] = [];
async function site(options: SiteOptions): Promise<Site> {
  const opened = await openSite(options);
  closers.push(() => opened.close());
  return opened;
}
async function scratch(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-surroundings-"));
  closers.push(() => rm(dir, { recursive: true, force: true }));
  return dir;
}
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function mount(options: string, dir: string): boolean {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", dir], { stdio: "ignore" });
    closers.push(async () => void execFileSync("umount", ["-l", dir]));
    return true;
  } catch {
    return false;
  }
}

const lastLine = ({ trace }: LocalJob): string => trace.trimEnd().split("\n").at(-1) ?? "";
const keyMark = (runnerDir: string): string => `ALLOY_RUNNER_JOB_KEY=${runnerDir}-`;

describe("SIGTERM while jobs are in their stages", () => {
  const cases = [
    ["alloy", "answers"],
    ["gitlab", "answers"],
    ["gitlab", "is away"],
    ["alloy", "says nothing any more"],
  ] as const;
  test.each(cases)(
    "%s %s: nothing runs on, and each job has one verdict",
    { timeout: 90_000 },
    async (dialect, how) => {
      const waiting = (name: string): string => `[ -z "$${name}" ] || { echo in-$CI_JOB_NAME; sleep 600; }`;
      const one = await site({
        dialect,
        global: "concurrent = 6\nshutdown_timeout = 8",
        entry: `pre_clone_script = '${waiting("CLONE")}'\npre_build_script = '${waiting("PRE")}'`,
      });
      const { coordinator, runner, stateDir, workDir } = one;
      const uploading = Promise.withResolvers<void>();
      let trouble = false;
      coordinator.intercept = ({ endpoint }) => {
        if (endpoint === "upload") {
          uploading.resolve();
          return { kind: "silence" };
        }
        if (!trouble || how === "answers") return undefined;
        return how === "is away" ? { kind: "drop" } : { kind: "silence" };
      };
      const loop = "while :; do sleep 0.1; done";
      const jobs = [
        coordinator.enqueue({
          name: "sources",
          git: { repoUrl: "file:///nonexistent", sha: "0".repeat(40), ref: "main" },
          variables: [{ key: "CLONE", value: "1" }],
          script: ["echo NEVER"],
        }),
        coordinator.enqueue({ name: "before", variables: [{ key: "PRE", value: "1" }], script: ["echo NEVER"] }),
        coordinator.enqueue({ name: "script", script: [`trap 'echo trapped; exit 0' TERM; echo in-script; ${loop}`] }),
        coordinator.enqueue({ name: "deaf", script: [`trap '' TERM; echo in-deaf; ${loop}`] }),
        coordinator.enqueue({ name: "after", script: ["true"], afterScript: ["echo in-after; sleep 600"] }),
        coordinator.enqueue({ name: "upload", script: ["echo x > f; echo in-upload"], artifacts: { paths: ["f"] } }),
      ];
      await Promise.all(jobs.map((job) => job.traceContains(`in-${job.name}`, { timeoutMs: 60_000 })));
      await uploading.promise;
      trouble = true;
      const stoppedAt = performance.now();
      await runner.stop("SIGTERM");
      expect(performance.now() - stoppedAt).toBeLessThan(20_000);
      const [runnerId = ""] = readdirSync(join(workDir, "builds"));
      expect(processesWith(keyMark(runnerId))).toEqual([]);
      if (how === "answers") expect(readdirSync(join(stateDir, "jobs"))).toEqual([]);
      coordinator.intercept = undefined;
      const next = await one.start();
      await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 60_000 })));
      expect(next.stderr()).not.toMatch(/died with the runner/);
      for (const job of jobs) {
        expect(job.updates.filter(({ state }) => state === "failed" || state === "success")).toHaveLength(1);
        expect([job.name, job.status, lastLine(job)]).toEqual([
          job.name,
          "failed",
          expect.stringContaining("Job failed (system failure): the runner was stopped"),
        ]);
        expect(job.trace).not.toMatch(/^NEVER/m);
      }
    },
  );
});

test("without HOME, and as a user that the system does not know, jobs run", async ({ skip }) => {
  if (process.getuid?.() !== 0) skip("only root can start it as somebody else");
  const one = await site({ dialect: "alloy", stopped: true });
  const own = join(one.dir, "program");
  await cp(program()[0], own);
  await chmod(own, 0o755);
  for (const path of [one.dir, one.configFile, one.workDir]) await chown(path, 4242, 4242);
  const words = ["--reuid=4242", "--regid=4242", "--clear-groups", own, "run", "--config", one.configFile];
  const runner = spawn("setpriv", words, {
    cwd: one.workDir,
    env: { PATH: "/usr/sbin:/usr/bin:/bin" },
    stdio: "ignore",
  });
  const exit = once(runner, "exit");
  closers.push(async () => {
    runner.kill("SIGTERM");
    await exit;
  });
  const job = one.coordinator.enqueue({ script: ["id -u", "echo home=$HOME", "git --version"] });
  await job.reported();
  expect(job.trace).toMatch(/^4242$/m);
  expect(job.trace).toMatch(/^home=\/$/m);
  expect(job.status).toBe("success");
});

test("with the loosest umask all that the runner keeps is for its account alone", { timeout: 60_000 }, async () => {
  const loose = ["sh", "-c", 'umask 000; exec "$@"', "sh"];
  const one = await site({ dialect: "gitlab", global: 'log_level = "debug"', run: { under: loose } });
  const open = new Set<string>();
  const look = (dir: string): void => {
    for (const { path, stats } of tree(dir)) {
      if ((stats.isFile() || stats.isDirectory()) && (stats.mode & 0o077) !== 0) open.add(path);
    }
  };
  const caches = join(one.workDir, "cache");
  const spec = {
    script: ["seq 1 200000 > f; mkdir -p c; seq 1 200000 > c/f; echo ready"],
    variables: [{ key: "FILE", value: "content", file: true }],
    artifacts: { paths: ["f"] },
    cache: { key: "k", paths: ["c"] },
  };
  const jobs = [one.coordinator.enqueue(spec), one.coordinator.enqueue(spec)];
  const watch = setInterval(() => look(one.stateDir), 5);
  try {
    for (const job of jobs) await job.reported();
  } finally {
    clearInterval(watch);
  }
  for (const job of jobs) expect(job.status, job.trace).toBe("success");
  look(one.stateDir);
  look(caches);
  expect([...open]).toEqual([]);
  expect(readdirSync(caches, { recursive: true }).length).toBeGreaterThan(2);

  const project = await scratch();
  execFileSync("git", ["init", "-q", project]);
  await writeFile(
    join(project, ".alloy-ci.yml"),
    "job:\n  script: ['echo x > f']\n  cache: {key: k, paths: [f]}\n  artifacts: {paths: [f]}\n",
  );
  const ran = await runProgram(["exec"], { home: one.dir, cwd: project, under: loose });
  expect(ran.code, ran.stdout + ran.stderr).toBe(0);
  look(join(one.dir, ".cache", "alloy-runner", "exec"));
  expect([...open]).toEqual([]);
});

test("exec trusts no directory that somebody else has put into the shared temporary one", async ({ skip }) => {
  if (process.getuid?.() !== 0) skip("only root can make a directory of somebody else's");
  const shared = await scratch();
  await chmod(shared, 0o1777);
  const planted = join(shared, `alloy-runner-${process.getuid?.()}`);
  await mkdir(planted);
  await chown(planted, 4242, 4242);
  const project = await scratch();
  execFileSync("git", ["init", "-q", project]);
  await writeFile(join(project, ".alloy-ci.yml"), "job:\n  script: ['echo x']\n");
  const ran = await runProgram(["exec"], { home: shared, cwd: project, env: { HOME: "/", TMPDIR: shared } });
  expect(ran.code).toBe(1);
  expect(ran.stderr).toContain(`${planted} was made by somebody else`);
  expect(readdirSync(planted)).toEqual([]);
});

describe("a disk for working copies that is too small", () => {
  test.for(["size=1m", "nr_inodes=40"])("%s: the job concerned fails clearly, others go on", async (size, { skip }) => {
    const one = await site({
      dialect: "gitlab",
      stopped: true,
      global: "min_free_disk = 1\nadmission = { min_free_inodes = 0 }",
    });
    if (!mount(size, one.workDir)) return skip("only an account that may mount can make a small disk");
    const upstream = await scratch();
    const script = `git init -q -b main . && head -c 3000000 /dev/urandom > large && mkdir d && seq 1 60 | while read n; do echo $n > d/$n; done
      git add . && git -c user.name=t -c user.email=t@e commit -qm one`;
    execFileSync("sh", ["-c", script], { cwd: upstream });
    const sha = execFileSync("git", ["rev-parse", "HEAD"], { cwd: upstream, encoding: "utf8" }).trim();
    await one.start();
    const git = { repoUrl: `file://${upstream}`, ref: "main", sha };
    const large = one.coordinator.enqueue({ git, script: ["echo NEVER"], projectId: 1, projectName: "large" });
    const update = await large.reported();
    expect(update).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
    expect(lastLine(large)).toContain("the disk with the working copies is full");
    execFileSync("sh", ["-c", `rm -rf ${one.workDir}/builds/*/0/*`]);
    const next = one.coordinator.enqueue({ script: ["echo fine"], projectId: 2, projectName: "small" });
    await next.reported();
    expect(next.status, next.trace).toBe("success");
  });
});
