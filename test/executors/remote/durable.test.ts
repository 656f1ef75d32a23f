import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import {
  durableCommands,
  jobMark,
  probeTools,
  type RemoteCommands,
  runRemoteScript,
} from "../../../executors/remote/index.ts";
import { SystemFailure } from "../../../src/errors.ts";
import type { Exit } from "../../../src/executor/environment.ts";
import { never } from "../../../src/time.ts";
import { Sink } from "../../support/executor-kit.ts";
import { localCommands, toolDirectory } from "./local.ts";

const dir = mkdtempSync(join(tmpdir(), "alloy-durable-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

interface Options {
  readonly commands?: RemoteCommands;
  readonly reading?: RemoteCommands;
  readonly signal?: AbortSignal;
  readonly output?: Sink;
  readonly patienceS?: number;
  /** Why nothing will come any more. */
  readonly loss?: Error;
}

let number = 0;

async function place(shell: string, path: string) {
  const commands = localCommands([shell], { PATH: path });
  const tools = { ...(await probeTools(commands, never)), sh: shell };
  return {
    commands,
    async run(
      text: string,
      options: Options = {},
    ): Promise<Exit & { text: string; directory: string; news: string[] }> {
      const directory = join(dir, `job-${number}`);
      const mark = jobMark(`durable-${process.pid}-${number++}`);
      const news: string[] = [];
      const { output = new Sink(), signal = never } = options;
      const scripts = durableCommands({
        commands: options.commands ?? commands,
        reading: options.reading ?? options.commands ?? commands,
        directory,
        onWeather: (one) => news.push(one),
        lost: async () => options.loss ?? null,
        ...(options.patienceS === undefined ? {} : { patienceS: options.patienceS }),
      });
      const host = {
        scripts,
        commands,
        tools,
        mark,
        scriptDir: join(dir, "scripts"),
        killLeftovers: true,
        killGraceMs: 400,
        where: "the place",
      };
      const command = { argv: [shell] as const, scriptOn: "stdin" as const, extension: ".sh" };
      const script = { text, command, stage: "build_script" as const, runIn: "build" as const, login: false };
      return { ...(await runRemoteScript(host, script, output, signal)), text: output.text, directory, news };
    },
  };
}

/** Connections that break, each one after so many milliseconds. */
function breaking(commands: RemoteCommands, afterMs: number): RemoteCommands & { breaks(): number } {
  let breaks = 0;
  return {
    breaks: () => breaks,
    async start(command, signal) {
      const cut = new AbortController();
      const process = await commands.start(command, AbortSignal.any([signal, cut.signal]));
      const failure = new SystemFailure("cut", { retry: true });
      const timer = setTimeout(() => {
        breaks++;
        process.stdout.destroy(failure);
        cut.abort(failure);
      }, afterMs);
      process.exit.finally(() => clearTimeout(timer)).catch(() => {});
      return process;
    },
  };
}

/** Connections that break, each one once so many bytes have come. */
function breakingAfter(commands: RemoteCommands, bytes: number): RemoteCommands {
  return {
    async start(command, signal) {
      const cut = new AbortController();
      const process = await commands.start(command, AbortSignal.any([signal, cut.signal]));
      async function* pieces(): AsyncGenerator<Buffer> {
        let come = 0;
        for await (const piece of process.stdout) {
          yield piece;
          come += piece.length;
          if (come < bytes) continue;
          const failure = new SystemFailure("cut", { retry: true });
          cut.abort(failure);
          throw failure;
        }
      }
      return { ...process, stdout: Readable.from(pieces(), { objectMode: false }) };
    },
  };
}

const busybox = toolDirectory(join(dir, "busybox"), "busybox");
const shells = [
  ["bash", "/bin/bash", process.env.PATH ?? ""],
  ["dash", "/bin/dash", process.env.PATH ?? ""],
  ["busybox", join(busybox, "sh"), busybox],
] as const;

describe.each(shells)("scripts that outlive their connection, in %s", (_, shell, path) => {
  test("statuses, output and the order of both outputs are the script's", async () => {
    const { run } = await place(shell, path);
    for (const code of [0, 1, 42, 126, 127, 137, 143, 255]) {
      expect(await run(`echo out; echo err >&2; printf last; exit ${code}`)).toMatchObject({
        code,
        text: "out\nerr\nlast",
      });
    }
    expect(await run("kill -KILL $$")).toMatchObject({ code: 137, signal: "SIGKILL" });
  });

  test("output is whole however often the connection breaks", async () => {
    const { commands, run } = await place(shell, path);
    const reading = breaking(commands, 250);
    const { code, text } = await run(
      "i=0; while [ $i -lt 150 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; exit 7",
      {
        reading,
      },
    );
    expect(code).toBe(7);
    expect(text).toBe(Array.from({ length: 150 }, (__, index) => `line ${index}\n`).join(""));
    expect(reading.breaks()).toBeGreaterThan(3);
  });

  test("a lot of output is whole over many files and breaks, and what has arrived is removed", async () => {
    const { commands, run } = await place(shell, path);
    const output = new Sink();
    const ended = await run("head -c 100000000 /dev/zero | tr '\\0' x; echo; echo end", {
      reading: breakingAfter(commands, 7_000_000),
      output,
    });
    expect(ended.text.length).toBe(100_000_005);
    expect(ended.text.endsWith("x\nend\n")).toBe(true);
    const [script = ""] = readdirSync(ended.directory);
    // The first file has this name. At most 64 MB may be there, so that it went before the script could end.
    expect(readdirSync(join(ended.directory, script))).not.toContain("o.1000000000000");
  });

  test("output is whole where a file of it is shorter than the one before", { timeout: 30_000 }, async () => {
    const { run } = await place(shell, path);
    // A file ends after so many reads, however little each of them brought.
    const widths = [300, 4, 300];
    const lines = widths.map(
      (width) => `i=0; while [ $i -lt 300 ]; do printf '%0${width}d\\n' $i; sleep 0.004; i=$((i+1)); done`,
    );
    const { text } = await run(lines.join("; "));
    const line = (width: number, index: number): string => `${String(index).padStart(width, "0")}\n`;
    const whole = widths.flatMap((width) => Array.from({ length: 300 }, (__, index) => line(width, index)));
    expect(text).toBe(whole.join(""));
  });

  test("while a script is silent, its follower copies nothing", async () => {
    const tools = mkdtempSync(join(dir, "counting-"));
    const copies = join(tools, "copies");
    const [cat] = execFileSync("sh", ["-c", "command -v cat"], { env: { PATH: path } })
      .toString()
      .split("\n");
    writeFileSync(join(tools, "cat"), `#!/bin/sh\necho copied >>${copies}\nexec ${cat}\n`, { mode: 0o755 });
    const { run } = await place(shell, path);
    // Without a home of its own, bash runs the programs of ~/.bashrc as well.
    const reading = localCommands([shell], { PATH: `${tools}:${path}`, HOME: tools });
    const { text } = await run("echo first; sleep 2; echo second; sleep 1", { reading });
    expect(text).toBe("first\nsecond\n");
    expect(readFileSync(copies, "utf8").split("\n").length - 1).toBeLessThanOrEqual(4);
  });

  test("while a script has been silent for long, hardly a program is started to look at it", async () => {
    const tools = mkdtempSync(join(dir, "counting-"));
    const looks = join(tools, "looks");
    const [wc] = execFileSync("sh", ["-c", "command -v wc"], { env: { PATH: path } })
      .toString()
      .split("\n");
    writeFileSync(looks, "");
    writeFileSync(join(tools, "wc"), `#!/bin/sh\necho looked >>${looks}\nexec ${wc} "$@"\n`, { mode: 0o755 });
    const { run } = await place(shell, path);
    const reading = localCommands([shell], { PATH: `${tools}:${path}`, HOME: tools });
    const count = (name: string): string => `${name}=$(wc -l <${looks})`;
    const { text } = await run(
      `echo first; sleep 5; ${count("a")}; sleep 4; ${count("b")}; printf x; sleep 4; printf '\\0'; sleep 4; echo $((b - a))`,
      { reading },
    );
    const [before = "", looked = ""] = text.split("\0");
    expect(before).toBe("first\nx");
    expect(looked).toMatch(/^\d+\n$/);
    expect(Number(looked)).toBeLessThanOrEqual(6);
  });

  test("a script that removes the files about it is told so at once", async () => {
    const { run } = await place(shell, path);
    const files = join(dir, `job-${number}`);
    // It begins to do so when its start was reported.
    await expect(run(`sleep 1; rm -rf ${files}/*; sleep 1`)).rejects.toThrow(/removed the runner's own files/);
  });

  test("a script whose output fills the disk is no success, and what was saved of it arrives", async ({ skip }) => {
    const files = join(dir, `job-${number}`);
    mkdirSync(files);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", files], { stdio: "ignore" });
    } catch {
      skip("nothing can be mounted here");
    }
    try {
      const { run } = await place(shell, path);
      const output = new Sink();
      const script = "trap '' PIPE; echo begun; head -c 9000000 /dev/zero | tr '\\0' x 2>/dev/null; exit 0";
      await expect(run(script, { output })).rejects.toThrow(/cannot be saved any more: the disk .* is full/);
      expect(output.text).toMatch(/^begun\nx{1000000}/);
    } finally {
      execFileSync("umount", ["-l", files]);
    }
  });

  test("what a script left running is named and ended, and its status is there before", async () => {
    const { run } = await place(shell, path);
    const { code, text } = await run("sleep 300 & echo started; exit 3");
    expect(code).toBe(3);
    expect(text).toMatch(/^started\n.*The script left a process running; ended sleep \(\d+\)/s);
  });

  test("a stop ends the tree", async () => {
    const { run } = await place(shell, path);
    const output = new Sink();
    const stop = new AbortController();
    const running = run("sleep 300 & echo ready; wait", { output, signal: stop.signal });
    running.catch(() => {});
    await output.until(/ready/);
    stop.abort(new Error("stopped"));
    await expect(running).rejects.toThrow("stopped");
    expect(output.text).toMatch(/Stopped .*sleep/);
  });
});

test("of a script that did not arrive whole nothing runs, and it is sent again", async () => {
  const { commands, run } = await place("/bin/dash", process.env.PATH ?? "");
  const count = join(dir, "count");
  let tries = 0;
  // The connection breaks in the middle of the text, which the other side takes for the text's end.
  const cutting: RemoteCommands = {
    start: async (command, signal) => {
      if (!(command.stdin instanceof Uint8Array) || ++tries > 2) return await commands.start(command, signal);
      const half = command.stdin.subarray(0, 30 + command.stdin.length / 2);
      const { exit } = await commands.start({ ...command, stdin: half }, signal);
      expect((await exit).code).toBe(94);
      const failure = new SystemFailure("cut", { retry: true });
      const failed = Promise.reject(failure);
      failed.catch(() => {});
      return { stdout: Readable.from([]), exit: failed };
    },
  };
  const ended = await run(`echo once >>${count}\n#${"x".repeat(500)}\nexit 5`, { commands: cutting });
  expect(ended.code).toBe(5);
  expect(tries).toBe(3);
  expect(readFileSync(count, "utf8")).toBe("once\n");
});

test("output is whole although its script has ended long before it arrives, over connections that break", async () => {
  const { commands, run } = await place("/bin/dash", process.env.PATH ?? "");
  let follows = 0;
  const slow: RemoteCommands = {
    async start(command, signal) {
      // As long as a connection takes that is dialled again and again.
      if (++follows > 1) await wait(4000);
      return await breakingAfter(commands, 33_000_000).start(command, signal);
    },
  };
  const { text, code } = await run("head -c 40000000 /dev/zero | tr '\\0' x; echo end", { commands, reading: slow });
  expect({ code, length: text.length, end: text.slice(-5) }).toEqual({ code: 0, length: 40_000_004, end: "xend\n" });
});

test("a script whose place was lost before anybody heard of its start ends with what it had printed, and the loss", async () => {
  const { run, commands } = await place("/bin/bash", process.env.PATH ?? "");
  const output = new Sink();
  const last = join(dir, "said-last-words");
  const losing: RemoteCommands = {
    async start(command, signal) {
      if (command.stdin === undefined) return await commands.start(command, signal);
      await (await commands.start(command, signal)).exit;
      await expect.poll(() => existsSync(last), { timeout: 10_000 }).toBe(true);
      throw new SystemFailure("cut", { retry: true });
    },
  };
  const loss = new SystemFailure("the container has ended");
  const text = `echo begun; echo last words; touch ${last}; exec sleep 86413`;
  await expect(run(text, { commands: losing, reading: commands, output, loss })).rejects.toBe(loss);
  expect(output.text).toBe("begun\nlast words\n");
  execFileSync("pkill", ["-f", "sleep 86413"]);
});

test("a start whose answer was lost is repeated, and the script runs once", async () => {
  const { commands, run } = await place("/bin/dash", process.env.PATH ?? "");
  const count = join(dir, "count-start");
  let lost = 0;
  const losing: RemoteCommands = {
    start: async (command, signal) => {
      const process = await commands.start(command, signal);
      if (command.stdin === undefined || lost === 3) return process;
      lost++;
      await process.exit;
      const failed = Promise.reject(new SystemFailure("cut", { retry: true }));
      failed.catch(() => {});
      return { stdout: Readable.from([]), exit: failed };
    },
  };
  expect(await run(`echo once >>${count}; exit 6`, { commands: losing })).toMatchObject({ code: 6 });
  expect(readFileSync(count, "utf8")).toBe("once\n");
});

test("a script that ends what runs it, or removes the runner's files, has failed and nobody waits for it", async () => {
  const { run } = await place("/bin/dash", process.env.PATH ?? "");
  const parent = "$(ps -o ppid= -p $PPID | tr -d ' ')";
  const attendant = `a=${parent}; while [ "$(ps -o args= -p $a | cut -c1-5)" = "sh -c" ] && [ $a -gt 1 ]; do k="$k $a"; a=$(ps -o ppid= -p $a | tr -d ' '); done; kill -9 $k $PPID $$`;
  // Whichever of them dies first: that it was killed may still have been written down, or not.
  const end = await run(attendant, { patienceS: 1 }).then(({ code }) => `status ${code}`, String);
  expect(end).toMatch(/how it ended is not known|ended by it|^status 137$/);
  await expect(run(`rm -rf ${dir}/job-*; sleep 1; exit 0`, { patienceS: 1 })).rejects.toThrow(SystemFailure);
});

test.each(shells)("in %s, nothing that a script puts beside its output is run or printed", async (_, shell, path) => {
  const { run } = await place(shell, path);
  const files = join(dir, `job-${number}`);
  const name = 'o.a[$(cd "$dir"; touch ran)]';
  const link = "ln -s /etc/passwd o.1000000000003";
  const { code, text, directory } = await run(`cd ${files}/*; echo >'${name}'; ${link}; echo said; exit 4`);
  expect({ code, text }).toEqual({ code: 4, text: "said\n" });
  const [script = ""] = readdirSync(directory);
  expect(readdirSync(join(directory, script))).toContain(name);
  expect(readdirSync(join(directory, script))).not.toContain("ran");
});

test("the text of a script is gone once it runs, and its directory with the next one", async () => {
  const { commands } = await place("/bin/dash", process.env.PATH ?? "");
  const directory = join(dir, `job-${randomBytes(4).toString("hex")}`);
  const scripts = durableCommands({
    commands,
    reading: commands,
    directory,
    onWeather: () => {},
    lost: async () => null,
  });
  const runOne = async (): Promise<string> => {
    const { stdout, exit } = await scripts.start({ script: "cat", args: [], stdin: Buffer.from("the text") }, never);
    let text = "";
    for await (const chunk of stdout) text += chunk;
    await exit;
    return text;
  };
  expect(await runOne()).toBe("the text");
  const [first = ""] = readdirSync(directory);
  expect(existsSync(join(directory, first, "in"))).toBe(false);
  expect(await runOne()).toBe("the text");
  expect(readdirSync(directory)).not.toContain(first);
});
