import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { endTree, jobMark, probeTools, type RemoteCommands, runRemoteScript } from "../../../executors/remote/index.ts";
import { SystemFailure } from "../../../src/errors.ts";
import type { Exit } from "../../../src/executor/environment.ts";
import type { JobUsage } from "../../../src/job/job.ts";
import type { Argv } from "../../../src/shell.ts";
import { never } from "../../../src/time.ts";
import { Sink } from "../../support/executor-kit.ts";
import { localCommands, toolDirectory } from "./local.ts";

const dir = mkdtempSync(join(tmpdir(), "alloy-scripts-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const PATH = process.env.PATH ?? "";
let keys = 0;

interface Surroundings {
  readonly commands: RemoteCommands;
  readonly mark: string;
  run(text: string, options?: Partial<RunOptions>): Promise<Exit & { text: string }>;
}

interface RunOptions {
  readonly argv: Argv;
  readonly scriptOn: "stdin" | "file";
  readonly signal: AbortSignal;
  readonly output: Sink;
  readonly killLeftovers: boolean;
  readonly onUsed: (usage: JobUsage) => void;
}

async function surroundings(shell: string, path: string, without: readonly string[] = []): Promise<Surroundings> {
  const commands = localCommands([shell], { PATH: path, file: "kept", status: "kept" });
  const probed = await probeTools(commands, never);
  const programs = new Map([...probed.programs].filter(([name]) => !without.includes(name)));
  const mark = jobMark(`test-${process.pid}-${keys++}`);
  const tools = { ...probed, programs, sh: shell };
  return {
    commands,
    mark,
    async run(text, options = {}) {
      const { argv = [shell], scriptOn = "stdin", signal = never, output = new Sink(), killLeftovers = true } = options;
      const host = {
        scripts: commands,
        commands,
        tools,
        mark,
        scriptDir: join(dir, "scripts"),
        killLeftovers,
        killGraceMs: 400,
        where: "the place",
        onUsed: options.onUsed ?? (() => {}),
      };
      const command = { argv, scriptOn, extension: ".sh" };
      const exit = await runRemoteScript(
        host,
        { text, command, stage: "build_script", runIn: "build", login: false },
        output,
        signal,
      );
      return { ...exit, text: output.text };
    },
  };
}

/** A zombie counts as dead: the process that inherits it may be slow to reap it. */
function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

const sets: readonly { name: string; needs: string; open(): Promise<Surroundings> }[] = [
  { name: "dash", needs: "/bin/dash", open: () => surroundings("/bin/dash", PATH) },
  { name: "bash", needs: "/bin/bash", open: () => surroundings("/bin/bash", PATH) },
  { name: "mksh", needs: "/bin/mksh", open: () => surroundings("/bin/mksh", PATH) },
  {
    name: "zsh as sh",
    needs: "/bin/zsh",
    open: () => {
      if (!existsSync(join(dir, "sh"))) symlinkSync("/bin/zsh", join(dir, "sh"));
      return surroundings(join(dir, "sh"), PATH);
    },
  },
  {
    name: "busybox alone",
    needs: "/bin/busybox",
    open: () => {
      const own = join(dir, "busybox");
      if (!existsSync(own)) toolDirectory(own, "busybox");
      return surroundings(`${own}/sh`, own);
    },
  },
  { name: "dash without setsid", needs: "/bin/dash", open: () => surroundings("/bin/dash", PATH, ["setsid"]) },
  {
    name: "dash without sed and grep",
    needs: "/bin/dash",
    open: () => {
      const own = join(dir, "few");
      if (!existsSync(own)) toolDirectory(own, ["cat", "setsid", "sleep", "env", "id", "uname", "rm", "mkdir"]);
      return surroundings("/bin/dash", own);
    },
  },
];

for (const { name, needs, open } of sets) {
  const missing = !existsSync(needs) && process.env.CI !== "true";
  describe.skipIf(missing)(
    `scripts started by ${name}${missing ? `: ${needs} is missing` : ""}`,
    { timeout: 120_000 },
    () => {
      test("have their own status, one ordered output, and the environment as it was", async () => {
        const { run } = await open();
        expect(await run("echo a; echo b >&2; echo c; exit 3")).toEqual({ code: 3, signal: null, text: "a\nb\nc\n" });
        expect(await run("kill -9 $$")).toEqual({ code: 137, signal: "SIGKILL", text: "" });
        expect((await run('echo "$file $status ${nonce-none} ${mark-none}"')).text).toBe("kept kept none none\n");
        expect(await run(`# ${"x".repeat(300_000)}\ncat </dev/null; printf end`)).toMatchObject({
          code: 0,
          text: "end",
        });
      });

      test("tell what they and what they waited for have used", async () => {
        const { run } = await open();
        const seen: JobUsage[] = [];
        const busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        await run(`(${busy}); exit 3`, { onUsed: (usage) => seen.push(usage) });
        await run("echo alloy-runner used >&2; exit 0", { onUsed: (usage) => seen.push(usage) });
        expect(seen.map(({ cpuSeconds }) => typeof cpuSeconds)).toEqual(["number", "number"]);
        const [long = 0, short = 0] = seen.map(({ cpuSeconds }) => cpuSeconds);
        expect(long).toBeGreaterThan(0.03);
        expect(short).toBeLessThan(long);
      });

      test("can come from a file that is gone afterwards, and nobody else's", async () => {
        const { run } = await open();
        expect(await run("echo $0; cat; exit 7", { scriptOn: "file" })).toMatchObject({ code: 7 });
        expect(readdirSync(join(dir, "scripts"))).toEqual([]);
        expect(statSync(join(dir, "scripts")).mode & 0o777).toBe(0o700);
      });

      test("leave nothing behind, whatever hides", async () => {
        const { run } = await open();
        const { code, text } = await run(
          "sleep 600 & echo $! ; setsid sleep 601 & echo $!; (trap '' TERM; exec sleep 602) >/dev/null 2>&1 & echo $!; env -i sleep 603 & echo $!; (sleep 0.2; echo late) & exit 4",
        );
        expect(code).toBe(4);
        expect(text).toContain("late\n");
        const pids = text.split("\n").filter((line) => /^\d+$/.test(line));
        expect(pids).toHaveLength(4);
        for (const pid of pids) {
          expect(text).toContain(`sleep (${pid})`);
          expect(isAlive(Number(pid))).toBe(false);
        }
        expect(text).toMatch(/The script left 4 processes running; ended .*had to be killed after 0.4 s/);
      });

      test("that are stopped get SIGTERM first, and only they", async () => {
        const { run } = await open();
        const stranger = spawn("sleep", ["604"], { detached: true });
        onTestFinished(() => void stranger.kill("SIGKILL"));
        await once(stranger, "spawn");
        const other = await open();
        const othersOutput = new Sink();
        const stopOther = new AbortController();
        const running = other.run("echo go; sleep 605", { output: othersOutput, signal: stopOther.signal });
        await othersOutput.until(/go/);
        const [output, stop] = [new Sink(), new AbortController()];
        const ended = run("trap 'echo bye; exit 0' TERM; sleep 600 & echo $! ready; while :; do sleep 0.05; done", {
          output,
          signal: stop.signal,
        });
        const [, pid = ""] = await output.until(/(\d+) ready/);
        stop.abort(new Error("enough"));
        await expect(ended).rejects.toThrow("enough");
        expect(output.text).toContain("bye\n");
        expect(output.text).toMatch(/WARNING: Stopped /);
        expect(isAlive(Number(pid))).toBe(false);
        expect(isAlive(stranger.pid ?? 0)).toBe(true);
        stopOther.abort(new Error("the end"));
        await expect(running).rejects.toThrow("the end");
        expect(othersOutput.text).toContain("sleep (");
      });
    },
  );
}

describe("remote scripts", { timeout: 120_000 }, () => {
  test("a shell that is not there is a failure that names it and the place", async () => {
    const { run } = await surroundings("/bin/sh", PATH);
    const failure = await run("echo no", { argv: ["no-such-shell"] }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(SystemFailure);
    expect(String(failure)).toContain('There is no shell "no-such-shell" in the place');
  });

  test("leftovers may live on where the operator wants it, and the mark finds them later", async () => {
    const { run, commands, mark } = await surroundings("/bin/sh", PATH);
    const { text } = await run("setsid sleep 600 >/dev/null 2>&1 & echo $!", { killLeftovers: false });
    expect(isAlive(Number(text))).toBe(true);
    const strangers = await endTree(commands, { mark: jobMark("test"), root: null, graceMs: 100, limitMs: 100 }, never);
    expect(strangers.ended).toEqual([]);
    const { ended, survived } = await endTree(commands, { mark, root: null, graceMs: 1000, limitMs: 1000 }, never);
    expect([ended, survived]).toEqual([[{ pid: Number(text), name: "sleep" }], []]);
  });

  test.skipIf(process.platform !== "linux")(
    "environments of gigabytes keep nobody from finding the job's",
    async () => {
      const { commands, mark, run } = await surroundings("/bin/sh", PATH);
      const uid = process.geteuid?.() === 0 ? 65534 : (process.getuid?.() ?? 0);
      const program = join(import.meta.dirname, "../../support/giant-environment.py");
      for (let count = 0; count < 3; count++) {
        const giant = spawn("python3", [program, String(uid), "6"], { stdio: ["pipe", "pipe", "inherit"] });
        onTestFinished(async () => {
          giant.kill("SIGKILL");
          await once(giant, "close");
        });
        await once(giant.stdout, "data");
      }
      const { text } = await run("setsid sleep 603 & echo $!", { killLeftovers: false });
      const began = performance.now();
      const { ended, survived } = await endTree(commands, { mark, root: null, graceMs: 1000, limitMs: 1000 }, never);
      expect(performance.now() - began).toBeLessThan(10_000);
      expect(survived).toEqual([]);
      expect(ended.map(({ name }) => name)).toEqual(["sleep"]);
      expect(isAlive(Number(text.trim()))).toBe(false);
    },
  );

  test("a script that ends leaves those alone that its job still runs beside it", async () => {
    const { run } = await surroundings("/bin/sh", PATH);
    const [output, stop] = [new Sink(), new AbortController()];
    const beside = run("(sleep 600; :) & (setsid sleep 601; :) & echo $! ready; wait", { output, signal: stop.signal });
    const [, pid = ""] = await output.until(/(\d+) ready/);
    const { text } = await run("setsid sleep 602 & echo $!");
    expect(text).toMatch(/^(\d+)\n.*The script left a process running; ended sleep \(\1\)/);
    expect((await run("true")).text).toBe("");
    expect(isAlive(Number(pid))).toBe(true);
    stop.abort(new Error("the end"));
    await expect(beside).rejects.toThrow("the end");
    expect(isAlive(Number(pid))).toBe(false);
  });

  test("a number that belongs to somebody else by now is not signalled", async () => {
    const { commands, mark } = await surroundings("/bin/sh", PATH);
    const stranger = spawn("sleep", ["606"], { detached: true });
    onTestFinished(() => void stranger.kill("SIGKILL"));
    await once(stranger, "spawn");
    const pid = stranger.pid ?? 0;
    const root = { pid, group: pid, session: pid, startedAt: "1" };
    const { ended } = await endTree(commands, { mark, root, graceMs: 100, limitMs: 100 }, never);
    expect(ended).toEqual([]);
    expect(isAlive(pid)).toBe(true);
  });

  test("what a profile prints before is shown, and an answer that is no shell's is a failure", async () => {
    const { commands, mark } = await surroundings("/bin/sh", PATH);
    const tools = await probeTools(commands, never);
    const host = { commands, tools, mark, scriptDir: dir, killLeftovers: true, killGraceMs: 100, where: "the place" };
    const script = { text: "echo x", command: { argv: ["sh"] as const, scriptOn: "stdin", extension: ".sh" } as const };
    const noisy: RemoteCommands = {
      start: (command, signal) => commands.start({ ...command, script: `echo welcome; ${command.script}` }, signal),
    };
    const output = new Sink();
    const run = (scripts: RemoteCommands) =>
      runRemoteScript(
        { ...host, scripts },
        { ...script, stage: "build_script", runIn: "build", login: false },
        output,
        never,
      );
    expect((await run(noisy)).code).toBe(0);
    expect(output.text).toBe("welcome\nx\n");
    const forced: RemoteCommands = {
      start: (_command, signal) => commands.start({ script: "echo only this; exit 0", args: [] }, signal),
    };
    await expect(run(forced)).rejects.toThrow(/Cannot start the shell "sh" in the place/);
    await expect(
      probeTools(
        { start: (_command, signal) => commands.start({ script: "echo only this", args: [] }, signal) },
        never,
      ),
    ).rejects.toThrow(/no POSIX shell/);
  });

  test("output flows at its reader's pace", async () => {
    const { run } = await surroundings("/bin/sh", PATH);
    const output = new Sink();
    const { code } = await run("head -c 5000000 /dev/zero; exit 2", { output });
    expect([code, output.text.length]).toEqual([2, 5_000_000]);
  });
});
