import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { lockDirectories } from "../../executors/shell/places/lock-directories.ts";
import { ScriptFailure, SystemFailure } from "../../src/errors.ts";
import type { Note } from "../../src/executor/prepare.ts";
import { never } from "../../src/time.ts";
import { executorContract } from "../contract/executor.ts";
import type { DepsOptions } from "../support/executor-deps.ts";
import { runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { isAlive } from "../support/processes.ts";
import { program } from "../support/program.ts";
import { newDirectory, opened, openIn, preparedIn } from "./shell-stand.ts";

const isRoot = process.geteuid?.() === 0;

describe("shell executor", () => {
  const dir = newDirectory();
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  for (const name of ["bash", "sh"] as const) {
    const own = join(dir, name);
    executorContract(name, { open: async (options) => openIn(own, { shell: name, ...options }) });
  }
  if (process.platform === "linux") {
    const own = join(dir, "durable");
    executorContract("bash, durable", {
      open: async (options) => openIn(own, { shell: "bash", durable: true, ...options }),
    });
  }
});

describe("directories of the shell executor", () => {
  test("lie where users of the Go runner look for them", async () => {
    const { dir, executor } = opened();
    const environment = await preparedIn(executor);
    expect(environment).toMatchObject({ buildsDir: join(dir, "builds"), projectSlot: 0, shell: "bash", login: true });
    expect(environment.workspace).toMatchObject({
      root: join(dir, "builds", "0a1b2c3d", "0", "group", "project"),
      tmpDir: join(dir, "builds", "0a1b2c3d", "0.tmp", "group", "project"),
    });
    expect(statSync(environment.workspace.tmpDir).mode & 0o777).toBe(0o700);
    expect(statSync(join(dir, "builds", "0a1b2c3d")).mode & 0o777).toBe(0o700);
  });

  test("a checkout above gives way to a place named by the project's number", async () => {
    const { dir, executor } = opened({ buildsDir: "elsewhere" });
    mkdirSync(join(dir, "elsewhere/0a1b2c3d/0/group/.git"), { recursive: true });
    const environment = await preparedIn(executor, sampleRequest("group/project", "12"));
    expect(environment.workspace.root).toBe(join(dir, "elsewhere/0a1b2c3d/0/project-12"));
  });

  test("two runner processes do not share one, and a dead one's claim is void", async () => {
    const { dir, executor } = opened();
    const second = openIn(dir);
    const first = await executor.prepare(sampleRequest(), new Sink(), never);
    const other = await second.prepare(sampleRequest("group"), new Sink(), never);
    expect([first.projectSlot, other.projectSlot]).toEqual([0, 1]);
    await first.destroy(never);
    await other.destroy(never);

    const [locks = ""] = lockDirectories(dir, false);
    mkdirSync(locks, { recursive: true, mode: 0o700 });
    const claims = (): string[] => readdirSync(locks).filter((name) => !name.startsWith("."));
    const before = new Set(claims());
    const third = await executor.prepare(sampleRequest(), new Sink(), never);
    const [claim = ""] = claims().filter((name) => !before.has(name));
    await third.destroy(never);
    expect(existsSync(join(locks, claim))).toBe(false);
    for (const stale of [JSON.stringify({ root: third.workspace.root, pid: 1, startedAt: -1, bootId: "x" }), "", "{"]) {
      mkdirSync(locks, { recursive: true, mode: 0o700 });
      writeFileSync(join(locks, claim), stale, { mode: 0o600 });
      const next = await executor.prepare(sampleRequest(), new Sink(), never);
      expect(next.projectSlot).toBe(0);
      await next.destroy(never);
    }
    await second.close(never);
  });

  test("a place that cannot be written is a failure of the system that names it", async () => {
    const { dir } = opened();
    writeFileSync(join(dir, "file"), "");
    for (const buildsDir of [join(dir, "file"), "/proc/nowhere"]) {
      const executor = openIn(dir, { buildsDir });
      const failure = await executor.prepare(sampleRequest(), new Sink(), never).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(SystemFailure);
      expect(String(failure)).toContain(buildsDir);
      await executor.close(never);
    }
  });

  test("clean-up does not follow links out of the temporary directory", async () => {
    const { dir, executor } = opened();
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    writeFileSync(join(dir, "victim"), "");
    await runOps(environment, source(`ln -s ${dir} ${environment.workspace.tmpDir}/link`));
    await environment.destroy(never);
    expect(existsSync(environment.workspace.tmpDir)).toBe(false);
    const again = await executor.prepare(sampleRequest(), new Sink(), never);
    mkdirSync(join(dir, "few"));
    writeFileSync(join(dir, "few", "victim"), "");
    const { tmpDir } = again.workspace;
    await runOps(again, source(`rmdir ${tmpDir}; ln -s ${dir}/few ${tmpDir}`));
    await again.destroy(never);
    expect(() => lstatSync(tmpDir)).toThrow("ENOENT");
    expect(readdirSync(join(dir, "few"))).toEqual(["victim"]);
    expect(existsSync(join(dir, "victim"))).toBe(true);
  });
});

describe("processes of the shell executor", () => {
  test("get a null stdin, one pipe for both outputs, and no other descriptor of the runner", async () => {
    const { dir, executor } = opened();
    const file = await import("node:fs").then((fs) => fs.openSync(join(dir, "secret"), "w"));
    onTestFinished(() => import("node:fs").then((fs) => fs.closeSync(file)));
    const { text } = await runOps(await preparedIn(executor), source("ls -l /proc/self/fd"));
    expect(text).toMatch(/ 0 -> \/dev\/null$/m);
    const [one, two] = [/ 1 -> (.*)$/m, / 2 -> (.*)$/m].map((pattern) => pattern.exec(text)?.[1]);
    expect(one).toBe(two);
    expect(one).toContain("(deleted)");
    expect(text).not.toContain(join(dir, "secret"));
    expect(text).not.toContain("script-");
    expect(text).not.toContain("socket:");
  });

  test("are in a session of their own, outside the runner's directory, and first to go when memory is short", async () => {
    const { executor } = opened();
    const { text } = await runOps(
      await preparedIn(executor),
      source("pwd; ps -o sid= -p $$; echo $$; cat /proc/self/oom_score_adj"),
    );
    const [cwd, session, pid, score] = text.split("\n").map((line) => line.trim());
    expect([cwd, session, score]).toEqual(["/", pid, "500"]);
  });

  test("inherit the short list and what the operator adds", async () => {
    vi.stubEnv("LC_PAPER", "en_GB.UTF-8");
    vi.stubEnv("no_proxy", "localhost");
    vi.stubEnv("ORACLE_HOME", "/opt/oracle");
    vi.stubEnv("ORACLE_SID", "x");
    vi.stubEnv("ORACLES", "no");
    const { executor } = opened({ inheritEnvironment: ["ORACLE_*"] });
    const { text } = await runOps(await preparedIn(executor), source("env"));
    const names = text.split("\n").map((line) => line.split("=", 1)[0]);
    expect(names).toEqual(
      expect.arrayContaining(["LC_PAPER", "no_proxy", "ORACLE_HOME", "ORACLE_SID", "PATH", "HOME"]),
    );
    expect(names).not.toContain("ORACLES");
    expect(names).not.toContain("NODE_ENV");
  });

  test("are found although they cleared their environment and daemonized, where there are control groups", async ({
    skip,
  }) => {
    const { executor } = opened({ killGraceMs: 200 });
    const environment = await preparedIn(executor);
    const { text: group } = await runOps(environment, source("grep ^0:: /proc/self/cgroup || :"));
    if (!group.includes("/alloy-")) skip("no cgroup v2 that we may use");
    const { text } = await runOps(
      environment,
      source("(env -i setsid sh -c 'sleep 600 & echo $! >&9' 9>&1 >/dev/null 2>&1 &) ; sleep 0.2"),
    );
    const [pid = ""] = text.split("\n");
    expect(text).toContain(`sleep (${pid})`);
    expect(spawnSync("ps", ["-o", "stat=", "-p", pid]).stdout.toString().replace(/^Z.*/, "").trim()).toBe("");
  });

  test("are found although they left the control group, once the job is over", async ({ skip }) => {
    const { executor } = opened({ killGraceMs: 200 });
    const environment = await preparedIn(executor);
    const { text: group } = await runOps(environment, source("grep ^0:: /proc/self/cgroup || :"));
    if (!group.includes("/alloy-")) skip("no cgroup v2 that we may use");
    const { text } = await runOps(
      environment,
      source(
        "root=$(sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \\([^ ]*\\) .* - cgroup2 .*/\\1/p' /proc/self/mountinfo | head -n1)",
        "own=$(sed -n 's/^0:://p' /proc/self/cgroup)",
        "leave='echo 0 > \"$0/cgroup.procs\" && echo $$; exec sleep 600 >/dev/null 2>&1'",
        'pid=$( (setsid sh -c "$leave" "$root${own%/*}" &) )',
        'echo "pid-$pid-"',
      ),
    );
    const pid = Number(/pid-(\d+)-/.exec(text)?.[1]);
    onTestFinished(() => {
      if (isAlive(pid)) process.kill(pid, "SIGKILL");
    });
    expect(isAlive(pid)).toBe(true);
    await environment.destroy(never);
    expect(isAlive(pid)).toBe(false);
  });

  test("a tree that forks while it is killed is ended too", async () => {
    const { executor } = opened({ killGraceMs: 100 });
    const environment = await preparedIn(executor);
    const stop = new AbortController();
    const output = new Sink();
    const ended = environment.run(
      scriptOf(
        environment,
        source("f() { trap '' TERM; while :; do sleep 0.01 & sleep 0.02; (f) & sleep 0.5; done; }; echo go; f"),
      ),
      output,
      stop.signal,
    );
    await output.until(/go/);
    stop.abort(new Error("stop"));
    await expect(ended).rejects.toThrow("stop");
    expect(output.text).not.toContain("Cannot end");
  });

  test("no argument list and no file shows a script while it runs", async () => {
    const { dir, executor } = opened();
    const environment = await preparedIn(executor);
    const output = new Sink();
    const running = runOps(
      environment,
      [
        { op: "export", name: "SECRET", value: "tell-nobody" },
        ...source(`echo go; while [ ! -e ${dir}/end ]; do sleep 0.02; done`),
      ],
      { output },
    );
    await output.until(/go/);
    expect(execFileSync("ps", ["-axww", "-o", "args="]).toString()).not.toContain("tell-nobody");
    expect(readdirSync(join(dir, "scratch")).filter((name) => !name.startsWith("pipe-"))).toEqual([]);
    writeFileSync(join(dir, "end"), "");
    await running;
  });

  test("nothing stays in the scratch directory, and no descriptor stays open", async () => {
    const dir = newDirectory();
    const count = (): number => readdirSync("/proc/self/fd").length;
    const executor = openIn(dir);
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    await runOps(environment, source("true"));
    const before = count();
    for (let round = 0; round < 30; round++) await runOps(environment, source("echo x"));
    expect(count()).toBeLessThanOrEqual(before + 2);
    await environment.destroy(never);
    await executor.close(never);
    expect(readdirSync(join(dir, "scratch"))).toEqual([]);
    rmSync(dir, { recursive: true });
  });
});

describe("what the shell executor refuses", () => {
  const failureOf = async (options: DepsOptions): Promise<unknown> =>
    opened(options)
      .executor.prepare(sampleRequest(), new Sink(), never)
      .catch((error: unknown) => error);

  test("a shell that is not there, or cannot be executed, is a failure of the system that names it", async () => {
    const dir = newDirectory();
    onTestFinished(() => rmSync(dir, { recursive: true }));
    vi.stubEnv("PATH", dir);
    const missing = await failureOf({ shell: "bash" });
    expect(missing).toBeInstanceOf(SystemFailure);
    expect(String(missing)).toContain('"bash"');
    writeFileSync(join(dir, "bash"), "\x7fELF nonsense", { mode: 0o755 });
    const nonsense = await failureOf({ shell: "bash" });
    expect(nonsense).toBeInstanceOf(SystemFailure);
    expect(String(nonsense)).toContain('Cannot start the shell "bash"');
  });

  test("accounts that are unknown, closed, or not an account at all", async () => {
    for (const user of ["no-such-user-here", "root -c id", "-c", "nobody", "a:b"]) {
      if (!isRoot && user === "nobody") continue;
      const failure = await failureOf({ user });
      expect(failure).toBeInstanceOf(SystemFailure);
      expect(failure).toMatchObject({ retry: false });
      expect(String(failure)).toContain(`"${user}"`);
    }
  });

  test("the runner's own account is fine, and needs no rights", async () => {
    const { executor } = opened({ user: userInfo().username });
    expect((await runOps(await preparedIn(executor), source("exit 3"))).code).toBe(3);
  });
});

describe("login shells", () => {
  test("a profile that eats the script or ends early leaves no proof and does no harm", async () => {
    const { dir, executor } = opened();
    vi.stubEnv("HOME", dir);
    const environment = await preparedIn(executor);
    for (const profile of ["cat >/dev/null", "exit 0"]) {
      writeFileSync(join(dir, ".bash_profile"), `${profile}\n`);
      const output = new Sink();
      const exit = await environment.run(scriptOf(environment, source("echo ran"), true), output, never);
      expect([exit.code, output.text.includes("the-proof"), output.text.includes("ran")]).toEqual([0, false, false]);
    }
    writeFileSync(join(dir, ".bash_profile"), "export FROM_PROFILE=yes\n");
    writeFileSync(join(dir, ".bash_logout"), 'if [ "$SHLVL" = 1 ]; then no-console-here; fi\n');
    expect(await runOps(environment, source("echo $FROM_PROFILE", "exit 3"), { login: true })).toMatchObject({
      code: 3,
    });
  });
});

test("what a profile leaves running is ended when it was asked, and holds no job up", async () => {
  const { dir, executor } = opened();
  vi.stubEnv("HOME", dir);
  const pids = join(dir, "pids");
  writeFileSync(
    join(dir, ".bash_profile"),
    `sleep 600 & echo $! >>${pids}\n(setsid sleep 601 >/dev/null 2>&1 & echo $! >>${pids})\nexport PATH=$PATH:/from-profile\n`,
  );
  const begin = performance.now();
  const environment = await preparedIn(executor);
  expect(performance.now() - begin).toBeLessThan(10_000);
  const left = readFileSync(pids, "utf8").trim().split("\n").map(Number);
  expect(left).toHaveLength(2);
  expect(left.filter(isAlive)).toEqual([]);
  expect((await runOps(environment, source("echo $PATH"), { login: false })).text).toContain(":/from-profile");
});

test("a profile that never ends holds up nobody who closes the runner", async () => {
  const dir = newDirectory();
  onTestFinished(() => rmSync(dir, { recursive: true }));
  vi.stubEnv("HOME", dir);
  const pid = join(dir, "pid");
  writeFileSync(join(dir, ".bash_profile"), `echo $$ >${pid}; kill -STOP $$\n`);
  const executor = openIn(dir);
  const preparing = executor.prepare(sampleRequest(), new Sink(), never).catch(() => null);
  await expect.poll(() => existsSync(pid) && readFileSync(pid, "utf8").trim() !== "", { timeout: 10_000 }).toBe(true);
  await executor.close(never);
  expect(isAlive(Number(readFileSync(pid, "utf8")))).toBe(false);
  await (await preparing)?.destroy(never);
});

describe.skipIf(!isRoot)("jobs as another user", () => {
  const name = `alloy-t${process.pid}`;
  const group = `alloy-g${process.pid}`;
  const home = newDirectory();
  execOrNothing("groupadd", [group]);
  execOrNothing("useradd", ["--no-create-home", "--home-dir", home, "--shell", "/bin/sh", "--groups", group, name]);
  const uid = Number(spawnSync("id", ["-u", name]).stdout.toString());
  chownSync(home, uid, uid);
  afterAll(() => {
    execOrNothing("userdel", [name]);
    execOrNothing("groupdel", [group]);
    rmSync(home, { recursive: true, force: true });
  });

  function execOrNothing(program: string, args: readonly string[]): void {
    if (isRoot) execFileSync(program, args, { stdio: "ignore" });
  }

  const dir = newDirectory();
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  // The account must be able to start the runner's program, but may not be able to enter this tree; so it gets a copy.
  const copy = join(dir, "alloy-runner");
  beforeAll(() => copyFileSync(program()[0], copy));
  const asUser = { user: name, ownProgram: [copy] } as const;
  executorContract(`as ${name}`, { open: async (options) => openIn(dir, { ...asUser, ...options }) });

  test("scripts have that user's ids, groups, home and name, and none of root's", async () => {
    vi.stubEnv("SSH_AUTH_SOCK", "/tmp/agent-of-root");
    const { executor } = opened(asUser);
    const environment = await preparedIn(executor);
    const { text } = await runOps(
      environment,
      source("id -un; id -u; id -Gn; echo $HOME $USER $LOGNAME $SHELL; env; echo x >/dev/stderr; whoami"),
    );
    expect(text).toContain(`${name}\n${uid}\n`);
    expect(text.split("\n")[2]?.split(" ")).toContain(group);
    expect(text.split("\n")[2]?.split(" ")).not.toContain("root");
    expect(text).toContain(`${home} ${name} ${name} /bin/sh\n`);
    expect(text).not.toContain("SSH_AUTH_SOCK");
    expect(text.endsWith(`x\n${name}\n`)).toBe(true);
  });

  test("su serves where setpriv is missing", async () => {
    const bin = newDirectory();
    onTestFinished(() => rmSync(bin, { recursive: true }));
    for (const program of ["bash", "getent", "id", "mkdir", "mkfifo", "ps", "rm", "setsid", "sh", "sleep", "su"]) {
      symlinkSync(
        execFileSync("sh", ["-c", `command -v ${program}`])
          .toString()
          .trim(),
        join(bin, program),
      );
    }
    vi.stubEnv("PATH", bin);
    const { executor } = opened({ ...asUser, killGraceMs: 200 });
    const environment = await preparedIn(executor);
    const ran = await runOps(
      environment,
      source('id -u; setsid sleep 600 & echo $!; echo "it\'s" >/dev/stderr; exit 9'),
    );
    expect(ran.code).toBe(9);
    expect(ran.text).toContain(`${uid}\n`);
    expect(ran.text).toContain("it's\n");
    expect(ran.text).toMatch(/ended sleep \(\d+\)/);
    const stop = new AbortController();
    const output = new Sink();
    const ended = runOps(environment, source("sleep 600 & echo go; wait"), { output, signal: stop.signal });
    await output.until(/go/);
    stop.abort(new Error("stop"));
    await expect(ended).rejects.toThrow("stop");
  });

  test("root makes their directory and touches nothing below it", async () => {
    const { dir: own, executor } = opened(asUser);
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    expect(statSync(join(own, "builds", "0a1b2c3d")).uid).toBe(uid);
    await runOps(environment, [{ op: "write", path: `${environment.workspace.tmpDir}/secret`, content: "x" }]);
    expect(statSync(environment.workspace.tmpDir)).toMatchObject({ uid });
    // A directory of root's, reached through a link that the job planted, survives the clean-up.
    mkdirSync(join(own, "treasure", "project"), { recursive: true });
    chmodSync(join(own, "treasure"), 0o700);
    const above = environment.workspace.tmpDir.replace(/\/project$/, "");
    await runOps(environment, source(`rm -rf ${above}; ln -s ${own}/treasure ${above}`));
    await environment.destroy(never).catch(() => {});
    expect(existsSync(join(own, "treasure", "project"))).toBe(true);
  });

  test("root makes nothing where a link of theirs leads, nor in a directory that others can change", async () => {
    const { dir: own, executor } = opened(asUser);
    const treasure = join(own, "treasure");
    mkdirSync(treasure, { mode: 0o700 });
    const work = join(own, "home");
    mkdirSync(work);
    symlinkSync(treasure, join(work, "builds"));
    chownSync(work, uid, uid);
    const inHome = openIn(own, { ...asUser, working: work });
    await expect(inHome.prepare(sampleRequest(), new Sink(), never)).rejects.toThrow(
      /home belongs to another user.*install -d -o/,
    );
    expect(readdirSync(treasure)).toEqual([]);
    // In its own home the account makes the directory itself, and without the link it works.
    rmSync(join(work, "builds"));
    const environment = await inHome.prepare(sampleRequest(), new Sink(), never);
    expect(statSync(join(work, "builds")).uid).toBe(uid);
    await environment.destroy(never);
    await inHome.close(never);
    await executor.close(never);
  });

  test("nobody else can read their working copies", async () => {
    for (const working of [undefined, home]) {
      const { dir: own, executor } = opened({ ...asUser, ...(working ? { working } : {}) });
      const environment = await preparedIn(executor);
      expect(statSync(join(working ?? own, "builds", "0a1b2c3d"))).toMatchObject({ uid, mode: 0o40700 });
      await environment.destroy(never);
    }
  });

  test("a state_dir that they could change is refused", async () => {
    const { executor } = opened({ ...asUser, scratch: join(home, "scratch") });
    await expect(executor.prepare(sampleRequest(), new Sink(), never)).rejects.toThrow(
      /state_dir: .* belongs to another user; set state_dir/,
    );
  });

  test("a dead one is cleaned up after with its rights, also when the configuration names no user any more", async () => {
    const { dir: own, executor } = opened(asUser);
    const request = sampleRequest();
    const environment = await executor.prepare(request, new Sink(), never);
    onTestFinished(() => environment.destroy(never).catch(() => {}));
    const { tmpDir } = environment.workspace;
    const planted = async (): Promise<void> => {
      mkdirSync(join(own, "treasure", "project"), { recursive: true });
      writeFileSync(join(own, "treasure", "project", "canary"), "");
      chmodSync(join(own, "treasure"), 0o700);
      const above = tmpDir.replace(/\/project$/, "");
      await runOps(environment, source(`rm -rf ${above}; ln -s ${own}/treasure ${above}`));
    };
    const canary = (): boolean => existsSync(join(own, "treasure", "project", "canary"));
    const rootsOwn = openIn(own);
    onTestFinished(() => rootsOwn.close(never));

    await runOps(environment, [{ op: "write", path: `${tmpDir}/secret`, content: "x" }]);
    const notes = JSON.parse(JSON.stringify(request.notes));
    expect(await rootsOwn.recover(request.jobKey, notes, never)).toEqual({
      done: ["removed its temporary files"],
      left: [],
    });
    expect(existsSync(tmpDir)).toBe(false);

    await planted();
    await rootsOwn.recover(request.jobKey, notes, never).catch(() => {});
    expect(canary()).toBe(true);
    // These notes are as an older runner wrote them, and as they are when the account is gone.
    const older = notes.map(({ user: _, ...note }: Note) => note);
    expect((await rootsOwn.recover(request.jobKey, older, never)).left.join()).toMatch(
      /could not remove .*root does not/,
    );
    expect(canary()).toBe(true);
    const orphaned = notes.map((note: Note) => ({ ...note, user: "alloy-nobody-any-more" }));
    expect((await rootsOwn.recover(request.jobKey, orphaned, never)).left.join()).toMatch(
      /could not remove .*no such account/,
    );
    expect(canary()).toBe(true);
  });

  test("what a job keeps its own account from reading is the job's failure", async () => {
    const { executor } = opened(asUser);
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    const { root } = environment.workspace;
    await runOps(
      environment,
      source(`mkdir -p ${root}/in/closed; echo x > ${root}/file; chmod 0 ${root}/in/closed ${root}/file`),
    );
    const list = (glob: string) => environment.workspace.list({ globs: [glob], exclude: [], untracked: false }, never);
    const refused = list("in/");
    await expect(refused).rejects.toBeInstanceOf(ScriptFailure);
    await expect(refused).rejects.toThrow("Cannot read in/closed: the job's account may not (EACCES)");
    const { tar } = await environment.workspace.pack((await list("file")).paths, never);
    await expect(tar.resume().toArray()).rejects.toBeInstanceOf(ScriptFailure);
    await environment.destroy(never);
  });

  test("a directory that belongs to somebody else is refused, not given away", async () => {
    const { dir: own, executor } = opened(asUser);
    mkdirSync(join(own, "builds", "0a1b2c3d"), { recursive: true });
    await expect(executor.prepare(sampleRequest(), new Sink(), never)).rejects.toThrow(/0a1b2c3d.*chown/);
    expect(statSync(join(own, "builds", "0a1b2c3d")).uid).toBe(0);
  });
});

for (const end of ["is closed", "is left by a crash"] as const) {
  test(`what gave up its session and its environment in a terminal ends as well when that ${end}`, async ({ skip }) => {
    const { dir, executor } = opened({ killGraceMs: 300 });
    const request = sampleRequest();
    const environment = await preparedIn(executor, request);
    const { text: group } = await runOps(environment, source("grep ^0:: /proc/self/cgroup || :"));
    if (!group.includes("/alloy-")) skip("no cgroup v2 that we may use");
    const terminal = await environment.openTerminal?.({ variables: [] }, never);
    if (terminal === undefined) throw new Error("there is no terminal");
    onTestFinished(() => terminal.close());
    const screen = new Sink();
    terminal.output.on("data", (chunk: Buffer) => void screen.write(chunk));
    terminal.input.write("env -i setsid -f sh -c 'echo pid-$$-; exec sleep 4321'\r");
    const [, pid = ""] = await screen.until(/pid-(\d+)-/);
    onTestFinished(() => {
      if (isAlive(Number(pid))) process.kill(Number(pid), "SIGKILL");
    });
    if (end === "is closed") await terminal.close();
    else {
      const later = openIn(dir, { killGraceMs: 300 });
      onTestFinished(() => later.close(never));
      expect(await later.recover(request.jobKey, request.notes, never)).toMatchObject({ left: [] });
    }
    expect(isAlive(Number(pid))).toBe(false);
  });
}

test("after a crash, what was started in the job's terminal is ended, too", async () => {
  const { dir, executor } = opened({ killGraceMs: 300 });
  const request = sampleRequest();
  const environment = await preparedIn(executor, request);
  const terminal = await environment.openTerminal?.({ variables: [] }, never);
  if (terminal === undefined) throw new Error("there is no terminal");
  onTestFinished(() => terminal.close());
  const screen = new Sink();
  terminal.output.on("data", (chunk: Buffer) => void screen.write(chunk));
  terminal.input.write("trap '' HUP; sleep 4321 & echo pid-$!-\r");
  const [, pid = ""] = await screen.until(/pid-(\d+)-/);
  const later = openIn(dir, { killGraceMs: 300 });
  onTestFinished(() => later.close(never));
  const { done, left } = await later.recover(request.jobKey, request.notes, never);
  expect(done.join()).toMatch(/ended \d+ processes/);
  expect(left).toEqual([]);
  expect(isAlive(Number(pid))).toBe(false);
});
