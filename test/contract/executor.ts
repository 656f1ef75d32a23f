import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { isAbsolute } from "node:path";
import { PassThrough, Readable, Writable } from "node:stream";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { ScriptFailure, SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Note, PrepareRequest } from "../../src/executor/prepare.ts";
import { tarEnd, tarHeader } from "../../src/files/tar.ts";
import type { Trust } from "../../src/job/job.ts";
import { readSettings } from "../../src/job/plan/settings.ts";
import { getSources } from "../../src/job/sources/get-sources.ts";
import type { Op } from "../../src/shell.ts";
import { deadline, never } from "../../src/time.ts";
import { fileNameOf } from "../../src/workspace.ts";
import { isAlive, type Ran, runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { ownTrust, sampleJob } from "../support/job.ts";
import { watchArguments } from "../support/watch-secrets.ts";
import { hostileValues } from "./values.ts";

export interface OpenOptions {
  readonly killGraceMs?: number;
  readonly killLeftovers?: boolean;
}

export interface ExecutorContractOptions {
  /** A fresh executor; the contract closes it. Executors of one test see the same machine and directories. */
  open(options?: OpenOptions): Promise<Executor>;
  readonly skip?: readonly { readonly test: string; readonly because: string }[];
  /** Longest time for one test where making an environment takes its time; by default vitest's. */
  readonly timeoutMs?: number;
  /** Where an environment takes its time: tests that need nothing of their own work in the same one. */
  readonly shared?: boolean;
  /** How many jobs run at once in the test of many jobs; by default 20. */
  readonly jobsAtOnce?: number;
}

/** What every executor does. */
export function executorContract(
  name: string,
  { open, skip = [], timeoutMs, shared = false, jobsAtOnce = 20 }: ExecutorContractOptions,
): void {
  describe(`${name}: what every executor does`, () => {
    const titles = new Set<string>();
    const it = (title: string, body: () => Promise<void>): void => {
      titles.add(title);
      const left = skip.find((one) => one.test === title);
      // A test that cannot hold for this executor is shown with its reason. Tests that lack something on a machine skip
      // elsewhere.
      if (left === undefined) test(title, body, timeoutMs);
      else test.skip(`${title} (not here: ${left.because})`, body);
    };

    const opened = async (options?: OpenOptions): Promise<Executor> => {
      const executor = await open(options);
      onTestFinished(() => executor.close(never));
      return executor;
    };
    const prepared = async (executor: Executor, request = sampleRequest()): Promise<Environment> => {
      const environment = await executor.prepare(request, new Sink(), never);
      onTestFinished(() => environment.destroy(never));
      return environment;
    };
    let common: Promise<{ executor: Executor; environment: Environment }> | null = null;
    const openCommon = async () => {
      const executor = await open({ killGraceMs: 300 });
      return { executor, environment: await executor.prepare(sampleRequest(), new Sink(), never) };
    };
    afterAll(async () => {
      const made = await common?.catch(() => null);
      await made?.environment.destroy(never);
      await made?.executor.close(never);
    }, timeoutMs);
    const fresh = async (options: OpenOptions = {}): Promise<Environment> => {
      if (!shared || options.killLeftovers !== undefined) return prepared(await opened(options));
      common ??= openCommon();
      return (await common).environment;
    };
    it("one that can run jobs says so, and names directories that are whole paths", async () => {
      const executor = await opened();
      await executor.ready?.(never);
      for (const directory of executor.disks?.() ?? []) expect(isAbsolute(directory)).toBe(true);
    });

    it("sources are where the job wants them, and a refusal of that leaves nothing behind", async () => {
      const executor = await opened();
      const request = sampleRequest();
      const refusal = new SystemFailure("not there", { reason: "runner_configuration_error" });
      const refuse = (): never => {
        throw refusal;
      };
      const refused = { ...request, chosenRoot: refuse };
      await expect(executor.prepare(refused, new Sink(), never)).rejects.toBe(refusal);
      const places: string[] = [];
      const chosenRoot: PrepareRequest["chosenRoot"] = ({ buildsDir, projectSlot }) => {
        places.push(`${buildsDir}/chosen/${projectSlot}/app`);
        return places.at(-1) ?? null;
      };
      const environment = await prepared(executor, { ...request, chosenRoot });
      const { root, tmpDir } = environment.workspace;
      expect(root).toBe(places.at(-1));
      expect(root.startsWith(`${environment.buildsDir}/chosen/${environment.projectSlot}/`)).toBe(true);
      expect(tmpDir.startsWith(`${root}/`)).toBe(false);
      const made = await runOps(environment, [
        { op: "mkdir", path: root },
        { op: "cd", path: root },
        ...source("pwd; echo made > file"),
      ]);
      expect(made).toMatchObject({ code: 0, text: `${root}\n` });
      const found = await environment.workspace.list({ globs: ["*"], exclude: [], untracked: false }, never);
      expect(found.paths).toEqual(["file"]);
      await runOps(environment, [{ op: "remove", path: root }]);
    });

    it("statuses are those of the script, and a death by signal has its name", async () => {
      const environment = await fresh();
      expect(await runOps(environment, source("true"))).toEqual({ code: 0, signal: null, text: "" });
      expect(await runOps(environment, source("exit 3"))).toMatchObject({ code: 3, signal: null });
      expect(await runOps(environment, source("sh -c 'exit 255'"))).toMatchObject({ code: 255, signal: null });
      // In PowerShell the process is a program that the shell has started.
      const itself = environment.shell === "pwsh" ? "$PPID $$" : "$$";
      const killed = await runOps(environment, source(`kill -9 ${itself}`, "echo no"));
      expect(killed).toEqual({ code: 137, signal: "SIGKILL", text: "" });
    });

    it("files are listed, packed and unpacked again, modes, times, links and odd names kept", async () => {
      const { workspace, ...environment } = await fresh();
      const both = { ...environment, workspace };
      const { root } = workspace;
      const made = await runOps(both, [
        { op: "mkdir", path: root },
        { op: "cd", path: root },
        ...source(
          "mkdir -p out/empty out/deep/er; echo one > out/a; seq 1 200000 > out/deep/er/large; ln -s ../a out/deep/link",
          `printf x > "out/$(printf '\\377')"; chmod 750 out/a; touch -d 2001-02-03T04:05:06Z out/a; mkfifo out/pipe; echo no > out/b.log`,
        ),
      ]);
      expect(made.code, made.text).toBe(0);
      const select = { globs: ["out/", "missing", "../outside"], exclude: ["**/*.log"], untracked: false };
      const list = await workspace.list(select, never);
      expect(list.paths).toEqual([
        "out",
        "out/a",
        "out/deep",
        "out/deep/er",
        "out/deep/er/large",
        "out/deep/link",
        "out/empty",
        "out/\xff",
      ]);
      expect(list.warnings.join("\n")).toMatch(/pipe[\s\S]*missing[\s\S]*outside/);
      expect((await workspace.list(select, never)).fingerprint).toBe(list.fingerprint);
      const { tar } = await workspace.pack(list.paths, never);
      const chunks: Buffer[] = [];
      for await (const chunk of tar) chunks.push(chunk);
      await runOps(both, [
        { op: "cd", path: root },
        ...source("rm -rf out; mkdir out; echo old > out/a; echo kept > out/kept"),
      ]);
      const limits = { bytes: 1e9, entries: 100, freeBytes: 0 };
      const report = await workspace.unpack(Readable.from(chunks, { objectMode: false }), limits, never);
      expect(report.entries).toBe(8);
      const { text } = await runOps(both, [
        { op: "cd", path: root },
        ...source(
          "stat -c '%a %Y' out/a; cat out/a out/kept; readlink out/deep/link; tail -n 1 out/deep/er/large; ls -A out | wc -l; id -u; stat -c %u out/a",
        ),
      ]);
      const lines = text.trim().split("\n");
      expect(lines.slice(0, 6)).toEqual(["750 981173106", "one", "kept", "../a", "200000", "5"]);
      expect(lines[6]).toBe(lines[7]);
    });

    it("an archive that leaves the checkout is refused by the name of its entry, however much follows", async () => {
      const { workspace } = await fresh();
      const head = (name: string, size: number) =>
        tarHeader({ name: fileNameOf(name), kind: "file", size, mode: 0o644, mtimeSeconds: 1, target: fileNameOf("") });
      const limits = { bytes: 1e9, entries: 100, freeBytes: 0 };
      const piece = Buffer.alloc(64 * 1024);
      for (const pieces of [0, 500]) {
        const large = Array.from({ length: pieces }, () => piece);
        const blocks = [head("../evil", 0), head("large", pieces * piece.length), ...large, tarEnd];
        const refused = workspace.unpack(Readable.from(blocks, { objectMode: false }), limits, never);
        await expect(refused).rejects.toBeInstanceOf(ScriptFailure);
        await expect(refused).rejects.toThrow(/"?\.\.\/evil"? leaves the project/);
      }
    });

    it("stdout and stderr arrive in the order of writing", async () => {
      const lines = Array.from({ length: 200 }, (_, index) => `echo ${index}${index % 2 === 1 ? " >&2" : ""}`);
      const { text } = await runOps(await fresh(), source(...lines));
      expect(text).toBe(lines.map((_, index) => `${index}\n`).join(""));
    });

    it("stdout and stderr can be opened by their names", async () => {
      const { code, text } = await runOps(
        await fresh(),
        source("echo a >/dev/stderr", "echo b >/dev/stdout", "echo c | tee /dev/stderr >/dev/null"),
      );
      expect({ code, text }).toEqual({ code: 0, text: "a\nb\nc\n" });
    });

    it("a script reads nothing from stdin, and cannot eat itself", async () => {
      const { code, text } = await runOps(await fresh(), source("cat", "read x || echo eof", "sh -c cat", "echo end"));
      expect({ code, text }).toEqual({ code: 0, text: "eof\nend\n" });
    });

    it("values reach programs byte for byte", async () => {
      const values = hostileValues.filter((value) => value.length < 50_000);
      const exports: Op[] = values.map((value, index) => ({ op: "export", name: `V_${index}`, value }));
      const { text } = await runOps(await fresh(), [...exports, ...source("env -0 || cat /proc/self/environ")]);
      const entries = new Set(text.split("\0"));
      for (const [index, value] of values.entries()) expect(entries.has(`V_${index}=${value}`)).toBe(true);
    });

    it("nothing of the runner's environment reaches a job", async () => {
      process.env.SECRET_OF_THE_RUNNER = "tell-nobody";
      onTestFinished(() => void delete process.env.SECRET_OF_THE_RUNNER);
      const { text } = await runOps(await fresh(), source("env"));
      expect(text).not.toContain("SECRET_OF_THE_RUNNER");
    });

    it("values show in no argument list", async () => {
      if (!existsSync("/proc/self/cmdline")) return;
      const environment = await fresh();
      const { tmpDir } = environment.workspace;
      const secret = `tell-nobody-${randomUUID()}`;
      using watch = watchArguments(() => [secret], 5);
      const { code, text } = await runOps(environment, [
        { op: "export", name: "SECRET", value: secret },
        { op: "exportFile", name: "SECRET_FILE", path: `${tmpDir}/secret`, content: secret },
        { op: "write", path: `${tmpDir}/written`, content: `x\n${secret}\n` },
        ...source("for i in 1 2 3 4 5 6 7 8 9 10; do sh -c 'sleep 0.02; cat \"$SECRET_FILE\"; echo'; done"),
      ]);
      expect([code, text]).toEqual([0, `${secret}\n`.repeat(10)]);
      expect(watch.looks).toBeGreaterThan(0);
      expect(watch.found).toEqual([]);
    });

    it("a person's terminal is in the checkout, outlives scripts, and ends with all that was started in it", async () => {
      const executor = await opened({ killGraceMs: 300 });
      const environment = await prepared(executor);
      const { root } = environment.workspace;
      expect(executor.features.terminal).toBe(true);
      await runOps(environment, [{ op: "mkdir", path: root }]);
      const variables = [{ key: "GREETING", value: "it's $HOME \\ ü" }];
      const terminal = await environment.openTerminal?.({ variables }, never);
      if (terminal === undefined) throw new Error("there is no terminal");
      const screen = new Sink();
      terminal.output.on("data", (chunk: Buffer) => {
        screen.write(chunk);
        // PowerShell asks where the cursor is, and waits for the answer that any window gives.
        if (chunk.includes("\x1b[6n")) terminal.input.write("\x1b[1;1R");
      });
      // PowerShell takes what is typed before its prompt for something else. Within it, the rest is done in sh.
      if (environment.shell === "pwsh") {
        await screen.until(/PS .*> /);
        terminal.input.write("sh\r");
        await screen.until(/[$#] $/);
      }
      // What is typed is shown, too: what is waited for stands nowhere in it.
      const sh = (text: string): void => void terminal.input.write(`${text}\r`);
      sh('tty; printf "<%s|%s>\\n" "$GREETING" "$(pwd -P)"');
      const [, shown] = await screen.until(/\/dev\/\S+\s+<([^%>][^>]*)>/);
      expect(shown).toMatch(/^it's \$HOME \\ ü\|/);
      expect(shown?.endsWith(root.split("/").at(-1) ?? "")).toBe(true);
      sh("sleep 4321 & echo pid-$!-");
      const [, pid = ""] = await screen.until(/pid-(\d+)-/);
      // The end of a script ends what it left running, and nothing of the terminal's.
      await runOps(environment, source("sleep 1234 & true"));
      sh(`kill -0 ${pid} && echo still-$((40 + 2))`);
      await screen.until(/still-42/);
      sh("id -u | sed s/^/uid-/");
      const [, uid] = await screen.until(/uid-(\d+)/);
      expect((await runOps(environment, source("id -u"))).text).toBe(`${uid}\n`);
      await terminal.close();
      await terminal.close();
      expect(await isAlive(environment, pid)).toBe(false);
    });

    it("everything written before the end has arrived, each time", async () => {
      const environment = await fresh();
      const expected = `${Array.from({ length: 50_000 }, (_, index) => index + 1).join("\n")}\n`;
      const hash = (text: string): string => createHash("sha256").update(text).digest("hex");
      const runs = await Promise.all(
        Array.from({ length: 10 }, () => runOps(environment, source("seq 1 50000", "exit 3"))),
      );
      for (const { code, text } of runs) expect([code, hash(text)]).toEqual([3, hash(expected)]);
    });

    it("output without a line feed flows at the reader's pace, in bounded memory", async () => {
      const environment = await fresh();
      let bytes = 0;
      let most = 0;
      const slow: Writable = new Writable({
        write: (chunk: Buffer, _encoding, done) => {
          bytes += chunk.length;
          most = Math.max(most, slow.writableLength);
          setTimeout(done, 1);
        },
      });
      const exit = await environment.run(scriptOf(environment, source("head -c 20000000 /dev/zero")), slow, never);
      slow.end();
      await once(slow, "finish");
      expect(exit.code).toBe(0);
      expect(bytes).toBe(20_000_000 + "the-proof\n".length);
      expect(most).toBeLessThan(2_000_000);
    });

    it("a script that nobody reads from waits, and can be stopped", async () => {
      const environment = await fresh({ killGraceMs: 100 });
      const stuck = new PassThrough();
      const stop = new AbortController();
      const ended = environment.run(scriptOf(environment, source("yes")), stuck, stop.signal);
      while (!stuck.writableNeedDrain) await wait(5);
      stop.abort(new Error("enough"));
      await expect(ended).rejects.toThrow("enough");
      expect(stuck.writableLength).toBeLessThan(4_000_000);
    });

    it("output that breaks does not hang the script", async () => {
      const environment = await fresh();
      const broken = new PassThrough();
      broken.on("error", () => {});
      const ended = environment.run(scriptOf(environment, source("seq 1 1000000", "exit 5")), broken, never);
      broken.once("data", () => broken.destroy(new Error("disk full")));
      expect((await ended).code).toBe(5);
    });

    it("a script may close its output and go on", async () => {
      expect((await runOps(await fresh(), source("exec >&- 2>&-", "sleep 0.1", "exit 6"))).code).toBe(6);
    });

    it("what a script left running is ended and named, also with a session of its own and its output kept", async () => {
      const environment = await fresh({ killGraceMs: 500 });
      const left = await runOps(
        environment,
        source(
          "sleep 600 & echo $!",
          "setsid sleep 601 & echo $!",
          "nohup sleep 602 >/dev/null 2>&1 & echo $!",
          "(trap '' TERM; exec sleep 603) & echo $!",
          "exit 4",
        ),
      );
      expect(left.code).toBe(4);
      const pids = left.text.split("\n").filter((line) => /^\d+$/.test(line));
      expect(pids).toHaveLength(4);
      for (const pid of pids) {
        expect(left.text).toContain(`sleep (${pid})`);
        expect(await isAlive(environment, pid)).toBe(false);
      }
    });

    it("what a background process still had to say is in the trace", async () => {
      const { text } = await runOps(await fresh(), source("(sleep 0.2; echo late) &", "echo early"));
      expect(text).toBe("early\nlate\n");
    });

    it("what passes the output on after the shell's end has two seconds for a first word", async () => {
      const { text } = await runOps(
        await fresh(),
        // In every shell, this does what bash does with `exec > >(sleep 1.2; cat) 2>&1`.
        source(
          "echo before",
          "pipe=$(mktemp -u) && mkfifo $pipe && { (rm -f $pipe; sleep 1.2; exec cat) <$pipe & exec >$pipe 2>&1; }",
          "echo through; echo and this >&2",
        ),
      );
      expect(text).toBe("before\nthrough\nand this\n");
    });

    it("what holds the output and is silent delays the end by those two seconds at most", async () => {
      const environment = await fresh({ killGraceMs: 300 });
      const started = performance.now();
      await runOps(environment, source("true"));
      const usualMs = performance.now() - started;
      const before = performance.now();
      const { text } = await runOps(environment, source("echo done", "sleep 600 &"));
      expect(text).toMatch(/^done\n/);
      // The limit includes the time to find the process and to end it.
      expect(performance.now() - before).toBeLessThan(usualMs * 3 + 4500);
    });

    it("leftovers may live on where the operator wants it", async () => {
      const environment = await fresh({ killLeftovers: false });
      const { text } = await runOps(environment, source("sleep 600 >/dev/null 2>&1 & echo $!"));
      expect(text).toMatch(/^\d+\n$/);
      expect(await isAlive(environment, text.trim())).toBe(true);
      await runOps(environment, source(`kill ${text.trim()}`));
    });

    it("stopping ends all of it: what ignores SIGTERM, has its own session, is stopped, or holds the output", async () => {
      const environment = await fresh({ killGraceMs: 1000 });
      const output = new Sink();
      const stop = new AbortController();
      const ended = runOps(
        environment,
        source(
          "trap 'echo said goodbye; exit 0' TERM",
          "sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & a=$!",
          "setsid sh -c 'trap \"\" TERM; sleep 601; sleep 602' & b=$!",
          "sleep 603 & c=$!; kill -STOP $c",
          "echo $a $b $c ready; wait $a",
        ),
        { output, signal: stop.signal },
      );
      const [, ...pids] = await output.until(/(\d+) (\d+) (\d+) ready/);
      stop.abort(new Error("canceled by somebody"));
      await expect(ended).rejects.toThrow("canceled by somebody");
      expect(output.text).toContain("said goodbye\n");
      for (const pid of pids) {
        expect(await isAlive(environment, pid)).toBe(false);
        expect(output.text).toContain(`(${pid})`);
      }
    });

    it("a signal that has fired already starts nothing", async () => {
      const environment = await fresh();
      const output = new Sink();
      await expect(
        runOps(environment, source("echo no"), { output, signal: AbortSignal.abort(new Error("over")) }),
      ).rejects.toThrow("over");
      expect(output.text).toBe("");
    });

    it("stopping at any moment of a script's life ends it", async () => {
      const environment = await fresh({ killGraceMs: 100 });
      for (let delayMs = 0; delayMs < 20; delayMs += 2) {
        using limit = deadline(never, delayMs, new Error("too long"));
        const output = new Sink();
        const run = environment.run(scriptOf(environment, source("sleep 600")), output, limit.signal);
        await expect(run).rejects.toThrow("too long");
      }
      expect((await runOps(environment, source("echo fine"))).text).toBe("fine\n");
    });

    it("stopping one job leaves another alone", async () => {
      const executor = await opened({ killGraceMs: 100 });
      const [first, second] = [await prepared(executor), await prepared(executor)];
      const stop = new AbortController();
      const output = new Sink();
      const stopped = runOps(first, source("sleep 600"), { signal: stop.signal });
      const other = runOps(
        second,
        source("echo started", `while [ ! -e ${second.workspace.tmpDir}/go ]; do sleep 0.05; done`, "exit 7"),
        { output },
      );
      await output.until(/started/);
      stop.abort(new Error("stop"));
      await expect(stopped).rejects.toThrow("stop");
      await first.destroy(never);
      await runOps(second, [{ op: "write", path: `${second.workspace.tmpDir}/go`, content: "" }]).catch(() => {});
      expect((await other).code).toBe(7);
    });

    it("jobs at the same time have directories of their own, also when their projects nest", async () => {
      const executor = await opened();
      const environments = [
        await prepared(executor),
        await prepared(executor),
        await prepared(executor, sampleRequest("group")),
        await prepared(executor, sampleRequest("group/project/inner")),
      ];
      // The same path may mean another directory, as in containers: then a file in one of them is not in the other.
      for (const [index, one] of environments.entries()) {
        const places = [one.workspace.root, one.workspace.tmpDir];
        await runOps(
          one,
          places.map((place) => ({ op: "write", path: `${place}/of-${index}`, content: "" })),
        );
      }
      for (const [index, one] of environments.entries()) {
        const { root, tmpDir } = one.workspace;
        const { text } = await runOps(one, source(`find ${root} ${tmpDir} -name 'of-*'`));
        expect(text.trim().split("\n")).toEqual([`${root}/of-${index}`, `${tmpDir}/of-${index}`]);
      }
      // Where tests share a job, that job may have the lowest slot.
      const [one = -1, other = -1] = environments.map(({ projectSlot }) => projectSlot);
      expect([one <= 1, other - one]).toEqual([true, 1]);
    });

    it("a job that follows at once works where the last one did, whose clean-up is still under way", async () => {
      const executor = await opened();
      const first = await executor.prepare(sampleRequest(), new Sink(), never);
      const leaving = first.destroy(never);
      const second = await prepared(executor);
      await leaving;
      expect(second.projectSlot).toBe(first.projectSlot);
      expect(second.workspace.root).toBe(first.workspace.root);
    });

    it("the next job finds the checkout of the last one, and none of its temporary files", async () => {
      const executor = await opened();
      const places: string[] = [];
      for (const expected of ["fresh", "kept"]) {
        const environment = await executor.prepare(sampleRequest(), new Sink(), never);
        const { root, tmpDir } = environment.workspace;
        places.push(root);
        const { text } = await runOps(environment, [
          ...source(`[ -e ${root}/file ] && echo kept || echo fresh`, `[ ! -e ${tmpDir}/secret ] || echo leak`),
          { op: "write", path: `${root}/file`, content: "" },
          { op: "write", path: `${tmpDir}/secret`, content: "" },
          ...source(`chmod 0 ${tmpDir}`),
        ]);
        expect(text).toBe(`${expected}\n`);
        await environment.destroy(never);
        await environment.destroy(never);
      }
      expect(places[0]).toBe(places[1]);
    });

    it("jobs of different trust find nothing of one another, and have slots as those of one", async () => {
      const executor = await opened();
      const open = async (level: Trust["level"]): Promise<Environment> =>
        await executor.prepare(sampleRequest("group/trusts", "77", { level, source: "" }), new Sink(), never);
      const levels = ["project", "protected", "fork"] as const;
      const find = (environment: Environment): Promise<Ran> => {
        const { root } = environment.workspace;
        return runOps(environment, source(`ls -A ${root} 2>/dev/null || true`));
      };
      for (const level of levels) {
        const environment = await open(level);
        expect((await find(environment)).text).toBe("");
        expect(environment.projectSlot).toBe(0);
        await runOps(environment, [{ op: "write", path: `${environment.workspace.root}/of-${level}`, content: "" }]);
        await environment.destroy(never);
      }
      const slots: number[] = [];
      const found: string[] = [];
      for (const level of levels) {
        const environment = await open(level);
        onTestFinished(() => environment.destroy(never));
        slots.push(environment.projectSlot);
        found.push((await find(environment)).text);
      }
      expect(slots).toEqual([0, 1, 2]);
      expect(found).toEqual(["of-project\n", "", ""]);
    });

    it("a job builds its commit, whatever the last one left in the index and the objects", async () => {
      const executor = await opened();
      const inCheckout = async (body: (environment: Environment) => Promise<void>): Promise<void> => {
        const environment = await executor.prepare(sampleRequest("group/sources", "78"), new Sink(), never);
        try {
          await body(environment);
        } finally {
          await environment.destroy(never);
        }
      };
      const remoteOf = ({ workspace }: Environment): string => `${workspace.root}-remote`;
      const checkOut = async (environment: Environment, sha: string): Promise<Ran> => {
        const { root, tmpDir } = environment.workspace;
        const job = sampleJob();
        const { ops } = getSources({
          template: undefined,
          job: { ...job, git: { ...job.git, repoUrl: `file://${remoteOf(environment)}`, sha } },
          root,
          tmpDir,
          git: readSettings(job, { get: () => undefined, debugTraceDisabled: false }).git,
          trust: ownTrust,
          plainLineEnds: false,
          userAgent: "alloy-runner 0 test/test",
          cloneUrl: "",
          sslNoVerify: false,
          coordinatorOrigin: "http://localhost",
          before: [],
          after: [],
          get: () => undefined,
        });
        return await runOps(environment, ops, { runIn: "helper" });
      };
      const inside = (environment: Environment, ...lines: string[]): Promise<Ran> =>
        runOps(environment, source("set -e", `cd ${environment.workspace.root}`, ...lines));
      let sha = "";
      await inCheckout(async (environment) => {
        const { text } = await runOps(
          environment,
          source(
            `set -e; git init -q -b main ${remoteOf(environment)}; cd ${remoteOf(environment)}`,
            "echo one > file.txt; echo two > two.txt; git add .",
            "git -c user.name=a -c user.email=a commit -q -m first; git rev-parse HEAD",
          ),
        );
        sha = text.trim();
        expect(await checkOut(environment, sha)).toMatchObject({ code: 0 });
        const left = await inside(
          environment,
          "echo bad > file.txt; touch -t 200109090146 file.txt; right=$(git rev-parse HEAD:file.txt); git add file.txt",
          "echo $right $(git rev-parse :file.txt) $(base64 .git/index)",
        );
        const [right = "", wrong = "", ...lines] = left.text.trim().split(/\s+/);
        const index = Buffer.from(lines.join(""), "base64").subarray(0, -20);
        Buffer.from(right, "hex").copy(index, index.indexOf(Buffer.from(wrong, "hex")));
        const lying = Buffer.concat([index, createHash("sha1").update(index).digest()]).toString("base64");
        const planted = await inside(
          environment,
          `echo ${lying} | base64 -d > .git/index; git status --porcelain; cat file.txt`,
        );
        expect(planted).toMatchObject({ code: 0, text: "bad\n" });
      });
      await inCheckout(async (environment) => {
        expect(await checkOut(environment, sha)).toMatchObject({ code: 0 });
        expect((await inside(environment, "cat file.txt two.txt")).text).toBe("one\ntwo\n");
        const forged = await inside(
          environment,
          "at() { echo .git/objects/$(echo $1 | cut -c1-2)/$(echo $1 | cut -c3-); }",
          "wrong=$(echo bad | git hash-object -w --stdin); right=$(git rev-parse HEAD:two.txt)",
          "chmod u+w $(at $right); cp $(at $wrong) $(at $right); rm two.txt; git cat-file blob $right",
        );
        expect(forged).toMatchObject({ code: 0, text: "bad\n" });
      });
      await inCheckout(async (environment) => {
        const { code, text } = await checkOut(environment, sha);
        expect(code).not.toBe(0);
        expect(text).toContain(`files of commit ${sha} are not what their names say`);
      });
    });

    it("many jobs at once do not mix", async () => {
      const executor = await opened();
      await Promise.all(
        Array.from({ length: jobsAtOnce }, async (_, index) => {
          const environment = await prepared(executor);
          const { text } = await runOps(environment, source(`seq 1 2000 | sed s/^/job-${index}-/`));
          const lines = text.trimEnd().split("\n");
          expect(lines).toHaveLength(2000);
          expect(lines.every((line) => line.startsWith(`job-${index}-`))).toBe(true);
        }),
      );
    });

    it("after a crash the notes lead to all that is left of a job, and to nothing else", async () => {
      const executor = await opened({ killGraceMs: 200 });
      const request = sampleRequest();
      const environment = await executor.prepare(request, new Sink(), never);
      const other = await prepared(executor);
      const output = new Sink();
      const dying = environment.run(
        scriptOf(environment, [
          { op: "write", path: `${environment.workspace.tmpDir}/secret`, content: "" },
          ...source("setsid sleep 600 & sleep 601 & echo $! ready; wait"),
        ]),
        output,
        never,
      );
      const died = dying.then(
        ({ signal }) => ({ end: signal === null ? "missed" : "seen" }),
        (error: unknown) => ({ end: error instanceof SystemFailure ? "seen" : String(error) }),
      );
      const alive = runOps(other, source("sleep 1; exit 8"));
      const [, pid = ""] = await output.until(/(\d+) ready/);
      expect(request.notes.length).toBeGreaterThan(0);

      const successor = await opened({ killGraceMs: 200 });
      // The notes are copied as the journal would return them.
      const notes: Note[] = JSON.parse(JSON.stringify(request.notes));
      const said = await successor.recover(request.jobKey, notes, never);
      expect(said.done.join("; ")).toMatch(
        /ended \d+ process|(?:removed 1 pod|powered off 1 virtual machine.*) and what ran in it/,
      );
      expect(said.left).toEqual([]);
      // A dead runner would have seen the same: a death by signal, or the end of the place in which the script ran.
      expect(await died).toMatchObject({ end: "seen" });
      // The check runs where the process numbers and paths mean the same: in the next job there, or in a neighbour.
      const { tmpDir } = environment.workspace;
      const witness = other.workspace.tmpDir === tmpDir ? null : other;
      if (witness !== null) {
        expect(await isAlive(witness, pid)).toBe(false);
        expect((await runOps(witness, source(`[ ! -e ${tmpDir} ]`))).code).toBe(0);
      }
      expect((await alive).code).toBe(8);
      await expect(successor.recover(request.jobKey, notes, never)).resolves.toEqual({ done: [], left: [] });
      await environment.destroy(never);
    });

    const unknown = skip.filter((one) => !titles.has(one.test));
    if (unknown.length > 0) throw new Error(`no such test to leave out: ${unknown.map((one) => one.test).join("; ")}`);
  });
}
