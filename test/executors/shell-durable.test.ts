import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { openRunRooms, runPlaces } from "../../executors/shell/places/run-rooms.ts";
import { Stop, SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Note } from "../../src/executor/prepare.ts";
import { never } from "../../src/time.ts";
import type { DepsOptions } from "../support/executor-deps.ts";
import { runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { isAlive } from "../support/processes.ts";
import { newDirectory, opened, openIn, preparedIn } from "./shell-stand.ts";

const isRoot = process.geteuid?.() === 0;
const onLinux = process.platform === "linux";

/** Directories of the scripts that run, of the executor in `dir`. */
function rooms(dir: string): string[] {
  return runPlaces(dir, "/run").flatMap((place) =>
    list(place)
      .filter((name) => !name.startsWith("pipe-"))
      .flatMap((job) =>
        list(join(place, job))
          .filter((name) => /^\d+$/.test(name))
          .map((script) => join(place, job, script)),
      ),
  );
}

function list(dir: string): string[] {
  return existsSync(dir) ? readdirSync(dir) : [];
}

function room(dir: string): string {
  const [one, ...others] = rooms(dir);
  if (one === undefined || others.length > 0) throw new Error(`${others.length + 1} scripts run`);
  return one;
}

const durable = (options: DepsOptions = {}) => opened({ durable: true, killGraceMs: 300, ...options });

/** Keeps nothing of a script. */
const silently = { begins: () => {}, settled: () => 0, say: () => {}, ended: async () => {} };

/** Process numbers of a script's attendant, pump and dd. */
function carriers(attendant: number): { attendant: number; pump: number; dd: number } {
  const rows = execFileSync("ps", ["-o", "pid=,ppid=,comm=", "-s", String(attendant)], { encoding: "utf8" })
    .trim()
    .split("\n")
    .map((row) => row.trim().split(/\s+/));
  const find = (parent: number, comm: RegExp): number =>
    Number(rows.find(([, ppid, name = ""]) => Number(ppid) === parent && comm.test(name))?.[0]);
  const pump = find(attendant, /sh/);
  const subshell = rows.find(([, ppid, name = ""]) => Number(ppid) === pump && /sh|dash/.test(name))?.[0];
  const dd = find(pump, /^dd$/) || find(Number(subshell), /^dd$/);
  return { attendant, pump, dd };
}

async function running(environment: Environment, text: string, signal = never) {
  const output = new Sink();
  const ended = environment.run(scriptOf(environment, source(text)), output, signal);
  ended.catch(() => {});
  const [, attendant = ""] = await output.until(/of (\d+)\n/);
  return { output, ended, attendant: Number(attendant) };
}

describe.runIf(onLinux)("scripts of the shell executor that do not need the runner", () => {
  test("statuses and signals are as ever, and nothing of the attendant is the script's", async () => {
    const { executor } = durable();
    const environment = await preparedIn(executor);
    const ends: Readonly<Record<string, { code: number; signal: string | null }>> = {
      "exit 126": { code: 126, signal: null },
      "exit 127": { code: 127, signal: null },
      "exit 256": { code: 0, signal: null },
      "kill -TERM $$": { code: 143, signal: "SIGTERM" },
      "kill -SEGV $$": { code: 139, signal: "SIGSEGV" },
      "kill 0": { code: 143, signal: "SIGTERM" },
      'trap "exit 5" INT; kill -INT $$': { code: 5, signal: null },
      'trap "exit 6" HUP; kill -HUP $$': { code: 6, signal: null },
      "kill -STOP $PPID; exit 7": { code: 7, signal: null },
    };
    for (const [text, exit] of Object.entries(ends)) {
      expect([text, await runOps(environment, source(text))]).toMatchObject([text, exit]);
    }
    const look = source(
      "ls /proc/self/fd; umask; pwd; env | grep -v ^ALLOY_RUNNER_JOB_KEY; cat /proc/self/oom_score_adj",
    );
    const attached = await preparedIn(opened({ killGraceMs: 300 }).executor);
    expect((await runOps(environment, look)).text).toBe((await runOps(attached, look)).text);
  });

  test("stdout and stderr can be opened anew, and be given up", async () => {
    const { executor } = durable();
    const { code, text } = await runOps(
      await preparedIn(executor),
      source("echo a >/dev/stderr; echo b >/dev/stdout; echo c", "exec >/dev/null; echo no; echo d >&2; exit 3"),
    );
    expect({ code, text }).toEqual({ code: 3, text: "a\nb\nc\nd\n" });
  });

  test("output of any kind is whole, and nothing of it stays", async () => {
    const { dir, executor } = durable();
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    const output = new Sink();
    const ran = await runOps(environment, source("seq 1 3000000; printf 'half \\303'; printf '\\000end'"), { output });
    expect(ran.text.length).toBe(22_888_896 + "half \ufffd\u0000end".length);
    expect(ran.text.endsWith("\n3000000\nhalf \ufffd\u0000end")).toBe(true);
    await environment.destroy(never);
    expect(rooms(dir)).toEqual([]);
    await executor.close(never);
    expect(runPlaces(dir, "/run").filter(existsSync)).toEqual([]);
  });

  test("the place is kept before anything starts, and so much stays as is not settled", async () => {
    const { dir, executor } = durable();
    const environment = await preparedIn(executor);
    expect(environment.handle).toMatchObject({ kind: "shell-job", root: environment.workspace.root });
    const begun: [Note, string[]][] = [];
    let settled = 0;
    const keeping = {
      ...silently,
      begins: (place: Note) => void begun.push([place, list(String(place.directory))]),
      settled: () => settled,
    };
    const [first, go, second] = ["first", "go", "second"].map((name) => join(dir, name));
    const much = "head -c 18000000 /dev/zero";
    const text = `${much}; touch ${first}; until [ -e ${go} ]; do sleep 0.02; done; ${much}; touch ${second}; sleep 600`;
    const stop = new AbortController();
    const script = { ...scriptOf(environment, source(text)), keeping };
    const ended = environment.run(script, new Sink(), stop.signal);
    ended.catch(() => {});
    const pieces = (): string[] => list(room(dir)).filter((name) => name.startsWith("o."));
    await expect.poll(() => existsSync(String(first)), { timeout: 10_000 }).toBe(true);
    await expect.poll(() => pieces().length).toBeGreaterThan(1);
    expect(pieces()).toContain("o.1000000000000");
    expect(begun).toMatchObject([[{ directory: room(dir) }, expect.not.arrayContaining(["o.1000000000000"])]]);
    settled = 18_000_000;
    writeFileSync(String(go), "");
    await expect.poll(() => existsSync(String(second)), { timeout: 10_000 }).toBe(true);
    await expect.poll(() => pieces()).not.toContain("o.1000000000000");
    stop.abort(new Error("enough"));
    await expect(ended).rejects.toThrow("enough");
  });

  test("the status is known while something left holds the output, and that is ended and named", async () => {
    const { dir, executor } = durable();
    const environment = await preparedIn(executor);
    const output = new Sink();
    const ended = runOps(environment, source("(setsid sleep 600 &) ; echo left; exit 9"), { output });
    await output.until(/left/);
    const code = (): string => readFileSync(join(room(dir), "code"), "utf8").trim();
    await expect.poll(code).toBe("9");
    expect(readFileSync(join(room(dir), "end"), "utf8").trim()).toBe("");
    expect(await ended).toMatchObject({ code: 9, text: expect.stringMatching(/left\n.*ended sleep \(\d+\)/) });
  });

  test("an attendant that is killed is a failure that says so, and its script is ended", async () => {
    const { executor } = durable();
    const environment = await preparedIn(executor);
    const { ended, output, attendant } = await running(environment, "echo $$ of $PPID; sleep 600; exit 0");
    process.kill(attendant, "SIGKILL");
    const failure = await ended.catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(SystemFailure);
    expect(String(failure)).toMatch(/How the script ended is not known: the process that waited .* ended \d+ process/);
    const [, shell] = /(\d+) of/.exec(output.text) ?? [];
    expect(isAlive(Number(shell))).toBe(false);
    const left = spawnSync("ps", ["-o", "stat=", "-s", String(attendant)], { encoding: "utf8" }).stdout;
    expect(left.split("\n").filter((state) => /^[^Z]/.test(state))).toEqual([]);
  });

  test("a pump that is killed costs the end of the output, not the status; a dd costs at most one read", async () => {
    const { dir, executor } = durable();
    const environment = await preparedIn(executor);
    const go = (name: string): string => `until [ -e ${join(dir, name)} ]; do sleep 0.02; done`;
    const first = await running(environment, `echo of $PPID; ${go("one")}; exit 4`);
    const { pump, dd } = carriers(first.attendant);
    expect([pump, dd].every(isAlive)).toBe(true);
    process.kill(pump, "SIGKILL");
    process.kill(dd, "SIGKILL");
    writeFileSync(join(dir, "one"), "");
    expect((await first.ended).code).toBe(4);
    expect(first.output.text).toContain("The end of the output may be missing: its writer was killed");

    const second = await running(environment, `echo of $PPID; ${go("two")}; seq 1 100000; exit 5`);
    process.kill(carriers(second.attendant).dd, "SIGKILL");
    await expect.poll(() => list(room(dir)).includes("room")).toBe(true);
    writeFileSync(join(dir, "two"), "");
    expect((await second.ended).code).toBe(5);
    const told = "[at most 65536 bytes of output may be lost: what saves it was killed]";
    expect(second.output.text).toContain(told);
    expect(second.output.text).toMatch(/\n99999\n100000\n$/);
  });

  test("a job that is removed while its script runs leaves neither that nor the attendant", async () => {
    const { dir, executor } = durable();
    const environment = await preparedIn(executor);
    const { ended, attendant } = await running(environment, "echo of $PPID; sleep 600");
    await environment.destroy(never);
    expect(await ended).toMatchObject({ signal: "SIGTERM" });
    await expect.poll(() => isAlive(attendant)).toBe(false);
    expect(rooms(dir)).toEqual([]);
  });

  test("all that stands still for a while goes on where it was", async () => {
    const { executor } = durable();
    const environment = await preparedIn(executor);
    const text = "echo of $PPID; for i in $(seq 1 40); do echo line $i; sleep 0.01; done";
    const { ended, output, attendant } = await running(environment, text);
    const all = execFileSync("ps", ["-o", "pid=", "-s", String(attendant)], { encoding: "utf8" })
      .trim()
      .split(/\s+/);
    for (const pid of all) spawnSync("kill", ["-STOP", pid]);
    const states = () => execFileSync("ps", ["-o", "state=", "-p", all.join(",")], { encoding: "utf8" });
    await expect.poll(states).toMatch(/^(?:T\s*)+$/);
    for (const pid of all) spawnSync("kill", ["-CONT", pid]);
    expect((await ended).code).toBe(0);
    expect(output.text.match(/^line \d+$/gm)).toHaveLength(40);
  });

  test("files that somebody removes or puts in the place of others cost what they cost, and nothing hangs", async () => {
    const { dir, executor } = durable();
    const environment = await preparedIn(executor);
    const go = (name: string): string => `until [ -e ${join(dir, name)} ]; do sleep 0.02; done`;
    const removed = await running(environment, `echo of $PPID; ${go("a")}; exit 0`);
    rmSync(room(dir), { recursive: true });
    writeFileSync(join(dir, "a"), "");
    await expect(removed.ended).rejects.toThrow("somebody removed the runner's files");

    for (const [index, plant] of [
      (path: string) => writeFileSync(path, "x\n"),
      (path: string) => writeFileSync(path, "0".repeat(1_000_000)),
      (path: string) => symlinkSync("/etc/hostname", path),
      (path: string) => execFileSync("mkfifo", [path]),
      (path: string) => mkdirSync(path),
    ].entries()) {
      const script = await running(environment, `echo of $PPID; ${go(`b${index}`)}; sleep 600`);
      // Nobody writes the true one any more.
      process.kill(script.attendant, "SIGKILL");
      rmSync(join(room(dir), "code"));
      plant(join(room(dir), "code"));
      await expect(script.ended).rejects.toThrow("How the script ended is not known");
    }
  });

  test("that is handed over is let be, and gone on with by its place", async () => {
    const { dir, executor } = durable();
    const environment = await preparedIn(executor);
    const places: Note[] = [];
    const handingOver = new AbortController();
    const output = new Sink();
    const go = join(dir, "go");
    const text = `echo of $PPID; until [ -e ${go} ]; do sleep 0.02; done; echo over; exit 3`;
    const script = scriptOf(environment, source(text));
    const keeping = {
      ...{ begins: (place: Note) => void places.push(place), settled: () => 0 },
      ...{ say: () => {}, ended: async () => {} },
    };
    const ended = environment.run({ ...script, keeping }, output, handingOver.signal);
    const [, attendant = ""] = await output.until(/of (\d+)\n/);
    const stop = new Stop("handing_over", "the next process goes on");
    handingOver.abort(stop);
    await expect(ended).rejects.toBe(stop);
    expect(isAlive(Number(attendant))).toBe(true);
    expect(rooms(dir)).toHaveLength(1);
    const [place] = places;
    if (place === undefined) throw new Error("no place was kept");

    writeFileSync(go, "");
    const later = new Sink();
    const resume = { place, from: output.text.length };
    const exit = await environment.run({ ...script, keeping: { ...keeping, resume } }, later, never);
    expect([exit.code, later.text]).toEqual([3, "over\n"]);
    expect(rooms(dir)).toEqual([]);
  });

  test("a program that is missing is named, and the job runs as ever", async () => {
    const bin = newDirectory();
    onTestFinished(() => rmSync(bin, { recursive: true }));
    for (const name of [
      "bash",
      "cat",
      "dd",
      "env",
      "getent",
      "id",
      "mkdir",
      "mkfifo",
      "ps",
      "rm",
      "sh",
      "sleep",
      "wc",
    ]) {
      symlinkSync(execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim(), join(bin, name));
    }
    vi.stubEnv("PATH", bin);
    const { dir, executor } = durable();
    const notes = new Sink();
    const environment = await executor.prepare(sampleRequest(), notes, never);
    onTestFinished(() => environment.destroy(never));
    expect(notes.text).toBe("WARNING: A restart of the runner ends this job: setsid cannot be found on this machine\n");
    expect(environment.handle).toBeUndefined();
    expect(await runOps(environment, source("echo fine"))).toMatchObject({ code: 0, text: "fine\n" });
    expect(rooms(dir)).toEqual([]);
  });
});

describe.runIf(onLinux)("a script whose runner was killed", () => {
  const numbers = Array.from({ length: 200_000 }, (_, index) => `${index + 1}\n`).join("");
  const proof = "the-proof\n";

  /** Begins `text` in another process, and kills that when `file` is there. */
  async function orphan(dir: string, jobKey: string, text: string, file: string): Promise<Note> {
    const program = join(import.meta.dirname, "../support/dying-runner.ts");
    const child = spawn(process.execPath, [program, dir, jobKey, text], { stdio: ["ignore", "pipe", "inherit"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    const [line]: unknown[] = await once(child.stdout, "data");
    await expect.poll(() => existsSync(file), { timeout: 30_000 }).toBe(true);
    child.kill("SIGKILL");
    await once(child, "exit");
    return JSON.parse(String(line));
  }

  async function successor(dir: string, jobKey: string): Promise<Environment> {
    const executor = openIn(dir, { durable: true, killGraceMs: 300 });
    onTestFinished(() => executor.close(never));
    return await preparedIn(executor, { ...sampleRequest(), jobKey });
  }

  const resuming = (place: Note, from: number, said: string[] = []) => ({
    ...silently,
    say: (text: string) => void said.push(text),
    settled: () => from,
    resume: { place, from },
  });

  test("is gone on with, from any byte, and its leftovers are ended; it never runs twice", async () => {
    const { dir } = durable();
    const jobKey = `test-${process.pid}-on`;
    const [started, go] = ["started", "go"].map((name) => join(dir, name));
    const text = `echo x >>${started}; seq 1 100000; until [ -e ${go} ]; do sleep 0.02; done; seq 100001 200000; sleep 600 & exit 4`;
    const place = await orphan(dir, jobKey, text, String(started));
    const environment = await successor(dir, jobKey);
    const output = new Sink();
    const said: string[] = [];
    const script = { ...scriptOf(environment, source("echo never")), keeping: resuming(place, 15, said) };
    const ended = environment.run(script, output, never);
    writeFileSync(String(go), "");
    expect(await ended).toEqual({ code: 4, signal: null });
    expect(output.text).toBe(`${proof}${numbers}`.slice(15));
    expect(said).toEqual([expect.stringMatching(/^WARNING: The script left a process running; ended sleep/)]);
    expect(readFileSync(String(started), "utf8")).toBe("x\n");
    expect(rooms(dir)).toEqual([]);
  });

  test("that prints far more than may wait stands still meanwhile, and nothing of it is lost", async () => {
    const { dir } = durable();
    const jobKey = `test-${process.pid}-much`;
    const started = join(dir, "started");
    const count = 120_000_000;
    const place = await orphan(dir, jobKey, `touch ${started}; seq 1 ${count}; exit 5`, started);
    const { directory, windowBytes } = place;
    if (typeof directory !== "string" || typeof windowBytes !== "number") throw new Error("no place");
    const waiting = (): number =>
      readdirSync(directory)
        .filter((name) => name.startsWith("o."))
        .reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
    await expect.poll(waiting, { timeout: 30_000 }).toBeGreaterThanOrEqual(windowBytes);
    // Whoever came now would find that it stands still for so long.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const held = waiting();
    expect(held).toBeLessThanOrEqual(windowBytes + 16 * 1024 * 1024);

    const environment = await successor(dir, jobKey);
    const hash = createHash("sha256");
    let bytes = 0;
    const output = new Writable({
      write(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        bytes += chunk.length;
        done();
      },
    });
    const said: string[] = [];
    const keeping = { ...resuming(place, 0, said), settled: () => bytes };
    expect(await environment.run({ ...scriptOf(environment, source("echo never")), keeping }, output, never)).toEqual({
      code: 5,
      signal: null,
    });
    expect(said).toEqual([
      expect.stringMatching(/^The script stood still for about [1-9] s while nobody read its output$/),
    ]);
    const whole = spawnSync("sh", ["-c", `(printf '${proof}'; seq 1 ${count}) | sha256sum`], {
      stdio: ["ignore", "pipe", "ignore"],
      encoding: "utf8",
    }).stdout;
    expect(hash.digest("hex")).toBe(whole.split(" ")[0]);
    expect(bytes).toBeGreaterThan(1_000_000_000);
  }, 120_000);

  test("that has ended while nobody looked has its output and its status", async () => {
    const { dir } = durable();
    const jobKey = `test-${process.pid}-over`;
    const [started = "", go = ""] = ["started", "go"].map((name) => join(dir, name));
    const text = `touch ${started}; until [ -e ${go} ]; do sleep 0.02; done; seq 1 200000; exit 6`;
    const place = await orphan(dir, jobKey, text, started);
    // It ends only now: whoever began it would have taken its end.
    writeFileSync(go, "");
    const told = (name: string): string => readFileSync(join(dir, "run", jobKey, "0", name), "utf8").trim();
    await expect.poll(() => told("code") !== "" && told("end") !== "").toBe(true);
    const environment = await successor(dir, jobKey);
    const output = new Sink();
    const script = { ...scriptOf(environment, source("echo never")), keeping: resuming(place, 0) };
    expect(await environment.run(script, output, never)).toEqual({ code: 6, signal: null });
    expect(output.text).toBe(`${proof}${numbers}`);
  });

  test("before anything of it ran is started, and one that is nowhere is a failure", async () => {
    const { dir } = durable();
    const jobKey = `test-${process.pid}-none`;
    const environment = await successor(dir, jobKey);
    const directory = join(dir, "run", jobKey, "0");
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const name of ["root", "code", "end", "lost"]) writeFileSync(join(directory, name), " ".repeat(64));
    execFileSync("mkfifo", [join(directory, "life")]);
    const place = { kind: "shell-script", directory, windowBytes: 1_048_576 };
    const output = new Sink();
    const script = { ...scriptOf(environment, source("echo now; exit 2")), keeping: resuming(place, 0) };
    expect(await environment.run(script, output, never)).toMatchObject({ code: 2 });
    expect(output.text).toBe(`${proof}now\n`);
    await expect(environment.run(script, output, never)).rejects.toThrow("How the script ended is not known");
    const elsewhere = { ...script, keeping: resuming({ ...place, directory: "/etc" }, 0) };
    await expect(environment.run(elsewhere, output, never)).rejects.toThrow("cannot be where it is said to be: /etc");
    expect(existsSync("/etc/passwd")).toBe(true);
  });
});

describe.runIf(onLinux && isRoot)("memory for scripts that do not need the runner", () => {
  const memory = mkdtempSync(join(tmpdir(), "alloy-memory-"));
  beforeAll(() => void execFileSync("mount", ["-t", "tmpfs", "-o", "size=40m,mode=755", "tmpfs", memory]));
  afterAll(() => {
    execFileSync("umount", [memory]);
    rmSync(memory, { recursive: true });
  });
  const pathOf = (dir: string): string => runPlaces(dir, memory)[0];

  test("scripts get a part of a quarter of it, and are on disk where that is used up", async () => {
    const dir = newDirectory();
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const all = openRunRooms({ stateDir: dir, memory, owner: null });
    const taken = Array.from({ length: 5 }, (_, index) => all.enter("job", String(index)));
    const windows = taken.map(({ directory, windowBytes }) => [directory.startsWith(memory), windowBytes / 1048576]);
    expect(windows.slice(0, 2)).toEqual([
      [true, expect.closeTo(2.5, 1)],
      [true, expect.closeTo(1.9, 1)],
    ]);
    expect(windows.at(-1)).toEqual([false, 64]);
    for (const one of taken) await one[Symbol.asyncDispose]();
    const again = all.enter("job", "again");
    expect(again.directory.startsWith(pathOf(dir))).toBe(true);
    await all.clear("job");
    await all.close();
    expect([existsSync(pathOf(dir)), existsSync(join(dir, "run"))]).toEqual([false, false]);
  });

  test("a full disk costs one read, which is said, and no status", async () => {
    const state = join(memory, "state");
    mkdirSync(state, { mode: 0o700 });
    const { dir, executor } = durable({ keepDir: state });
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    onTestFinished(() => environment.destroy(never));
    const go = (name: string): string => `until [ -e ${join(dir, name)} ]; do sleep 0.02; done`;
    const text = `echo of $PPID; ${go("one")}; seq 1 200000; echo over; ${go("two")}; exit 3`;
    const { ended, output } = await running(environment, text);
    const filler = join(memory, "filler");
    spawnSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=64k"]);
    writeFileSync(join(dir, "one"), "");
    const losses = (): string => readFileSync(join(room(state), "lost"), "utf8").trim();
    await expect.poll(losses, { timeout: 5000 }).toMatch(/^\d+ 1 full$/);
    rmSync(filler);
    await output.until(/over\n/);
    writeFileSync(join(dir, "two"), "");
    expect((await ended).code).toBe(3);
    expect(output.text).toContain(`[at most 65536 bytes of output were lost: no space in ${join(state, "run")}]`);
    expect(output.text.match(/were lost/g)).toHaveLength(1);
    const lines = output.text.split("\n");
    expect(lines.slice(lines.indexOf("200000") - 1, lines.indexOf("200000") + 1)).toEqual(["199999", "200000"]);
    const printed = 1_288_895;
    expect(output.text.length).toBeGreaterThan(printed - 65_536);
  });
});

describe.runIf(onLinux && isRoot)("jobs of another account that do not need the runner", () => {
  const name = `alloy-d${process.pid}`;
  const home = newDirectory();
  let uid = Number.NaN;
  beforeAll(() => {
    execFileSync("useradd", ["--no-create-home", "--home-dir", home, "--shell", "/bin/sh", name]);
    uid = Number(spawnSync("id", ["-u", name]).stdout.toString());
    chownSync(home, uid, uid);
  });
  afterAll(() => {
    execFileSync("userdel", [name]);
    rmSync(home, { recursive: true, force: true });
  });

  test("reach neither the attendant nor the runner's files, and start none of its programs", async () => {
    // A profile may put directories of the account's own before others.
    writeFileSync(join(home, ".profile"), `PATH=${home}:$PATH\n`);
    for (const tool of ["dd", "sleep", "wc", "setsid"]) {
      writeFileSync(join(home, tool), `#!/bin/sh\nid -u >>${home}/started\nexec /usr/bin/${tool} "$@"\n`, {
        mode: 0o755,
      });
    }
    const { dir, executor } = durable({ user: name, shell: "sh" });
    const environment = await preparedIn(executor);
    const secret = openSync(join(dir, "secret"), "w");
    onTestFinished(() => closeSync(secret));
    const { output, ended } = await running(
      environment,
      [
        "id -u; echo of $PPID",
        "for way in 'kill -0 $PPID' 'ls /proc/$PPID/fd' 'cat /proc/$PPID/environ' 'ls $ROOM' 'cat $ROOM/code' 'echo 0 >$ROOM/code'; do",
        `ROOM=${join(dir, "run")}; if (eval "$way") >/dev/null 2>&1; then echo "$way: open"; else echo closed; fi; done`,
        "for fd in /proc/self/fd/*; do readlink $fd; done | sort | uniq -c; echo x >/dev/stderr; exit 2",
      ].join("\n"),
    );
    expect((await ended).code).toBe(2);
    expect(output.text).toContain(`\n${uid}\n`);
    expect(output.text.match(/closed/g)).toHaveLength(6);
    expect(output.text).not.toMatch(/: open|\/secret|script-|\/life/);
    expect(output.text.endsWith("x\n")).toBe(true);
    expect(existsSync(join(home, "started"))).toBe(false);
    chmodSync(home, 0o755);
  });
});
