import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import {
  durableCommands,
  jobMark,
  probeTools,
  type RemoteCommands,
  runRemoteScript,
} from "../../../executors/remote/index.ts";
import { Stop } from "../../../src/errors.ts";
import type { Exit, ScriptKeeping } from "../../../src/executor/environment.ts";
import type { Note } from "../../../src/executor/prepare.ts";
import { never } from "../../../src/time.ts";
import { Sink } from "../../support/executor-kit.ts";
import { localCommands, toolDirectory } from "./local.ts";

/** Scripts that one process of the runner leaves, and another one goes on with. */

const dir = mkdtempSync(join(tmpdir(), "alloy-left-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const busybox = toolDirectory(join(dir, "busybox"), "busybox");
const shells = [
  ["bash", "/bin/bash", process.env.PATH ?? ""],
  ["dash", "/bin/dash", process.env.PATH ?? ""],
  ["busybox", join(busybox, "sh"), busybox],
] as const;

let number = 0;

/** One script over several processes of the runner: what each of them notes is all that the next one has. */
async function journey(shell: string, path: string, text: string) {
  const commands = localCommands([shell], { PATH: path });
  const tools = { ...(await probeTools(commands, never)), sh: shell };
  const directory = join(dir, `job-${number}`);
  const mark = jobMark(`left-${process.pid}-${number++}`);
  let place: Note | undefined;
  const said: string[] = [];
  const script = {
    text,
    command: { argv: [shell] as const, scriptOn: "stdin" as const, extension: ".sh" },
    stage: "build_script" as const,
    runIn: "build" as const,
    login: false,
  };
  return {
    said,
    directory,
    async until(output: Sink, bytes: number): Promise<void> {
      await expect.poll(() => output.text.length, { timeout: 25_000, interval: 500 }).toBe(bytes);
    },
    get place() {
      return place;
    },
    /** @param from raw bytes of output that are in the trace already */
    async process(
      output: Sink,
      signal: AbortSignal,
      { from = 0, starting = commands }: { readonly from?: number; readonly starting?: RemoteCommands } = {},
    ): Promise<Exit> {
      const keeping: ScriptKeeping = {
        begins: (note) => {
          place = JSON.parse(JSON.stringify(note));
        },
        // What this process has is noted at once, and is all that the next one will have.
        settled: () => from + output.text.length,
        say: (line) => void said.push(line),
        ended: async () => {},
        ...(place === undefined ? {} : { resume: { place, from } }),
      };
      const scripts = durableCommands({
        commands: starting,
        reading: commands,
        directory,
        onWeather: () => {},
        lost: async () => null,
      });
      const host = {
        ...{ scripts, commands, tools, mark, where: "the place", killLeftovers: true, killGraceMs: 400 },
        scriptDir: join(dir, "scripts"),
      };
      return await runRemoteScript(host, { ...script, keeping }, output, signal);
    },
  };
}

const handOver = (): Stop => new Stop("handing_over", "the runner hands over");

describe.each(shells)("a script that its runner leaves to the next one, in %s", (_, shell, path) => {
  test("runs once, its output goes on byte for byte, and its status is known", { timeout: 60_000 }, async () => {
    const count = join(dir, `count-${number}`);
    const lines = 'n=0; while [ $n -lt 120 ]; do printf "$n "; sleep 0.02; echo ünd; n=$((n + 1)); done';
    const { process, said } = await journey(shell, path, `echo x >>${count}; ${lines}; exit 7`);
    let text = "";
    let processes = 0;
    let exit: Exit | null = null;
    while (exit === null) {
      const over = new AbortController();
      const output = new Sink();
      const timer = setTimeout(() => over.abort(handOver()), 120 + 40 * processes++);
      exit = await process(output, over.signal, { from: Buffer.byteLength(text) }).catch((error: unknown) => {
        expect(error).toBe(over.signal.reason);
        return null;
      });
      clearTimeout(timer);
      text += output.text;
    }
    expect(exit.code).toBe(7);
    expect(processes).toBeGreaterThan(4);
    expect(text).toBe(Array.from({ length: 120 }, (__, n) => `${n} ünd\n`).join(""));
    expect(readFileSync(count, "utf8")).toBe("x\n");
    expect(said).toEqual([]);
  });

  test("ends while nobody looks, and tells the next one", { timeout: 30_000 }, async () => {
    const { process, said } = await journey(shell, path, "echo begun; sleep 1; sleep 300 & echo over; exit 3");
    const over = new AbortController();
    const output = new Sink();
    const left = process(output, over.signal);
    left.catch(() => {});
    await output.until(/begun/);
    over.abort(handOver());
    await expect(left).rejects.toBe(over.signal.reason);
    await wait(1500);
    const next = new Sink();
    expect(await process(next, never, { from: output.text.length })).toMatchObject({ code: 3 });
    expect(output.text + next.text).toBe("begun\nover\n");
    expect(said.join()).toMatch(/left a process running; ended sleep/);
  });

  test("is ended by the next one where that is wanted by then", { timeout: 30_000 }, async () => {
    const { process, said } = await journey(shell, path, "echo begun; sleep 1; echo more; sleep 300");
    const over = new AbortController();
    const output = new Sink();
    const left = process(output, over.signal);
    left.catch(() => {});
    await output.until(/begun/);
    over.abort(handOver());
    await expect(left).rejects.toBe(over.signal.reason);
    await wait(1500);
    const canceled = AbortSignal.abort(new Stop("canceling", "by somebody"));
    const next = new Sink();
    await expect(process(next, canceled, { from: output.text.length })).rejects.toBe(canceled.reason);
    expect(next.text).toBe("more\n");
    expect(said.join()).toMatch(/Stopped .*sleep/);
  });
});

test("a script whose start nobody has heard of is started by the next one, and once", { timeout: 30_000 }, async () => {
  for (const arrives of [true, false]) {
    const count = join(dir, `count-${number}`);
    const all = await journey("/bin/dash", process.env.PATH ?? "", `echo x >>${count}; echo said; exit 5`);
    const over = new AbortController();
    const commands = localCommands(["/bin/dash"], { PATH: process.env.PATH ?? "" });
    // The runner dies before it has an answer.
    const mute: RemoteCommands = {
      async start(command, signal) {
        if (arrives) await (await commands.start(command, signal)).exit;
        over.abort(handOver());
        return await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      },
    };
    await expect(all.process(new Sink(), over.signal, { starting: mute })).rejects.toThrow("hands over");
    expect(all.place).toMatchObject({ started: false });
    const output = new Sink();
    expect(await all.process(output, never)).toMatchObject({ code: 5 });
    expect(output.text).toBe("said\n");
    expect(readFileSync(count, "utf8")).toBe("x\n");
  }
});

test("a script that has run and whose files are gone is not started again", { timeout: 30_000 }, async () => {
  const count = join(dir, `count-${number}`);
  const all = await journey("/bin/dash", process.env.PATH ?? "", `echo x >>${count}; echo begun; sleep 0.5`);
  const over = new AbortController();
  const output = new Sink();
  const left = all.process(output, over.signal);
  left.catch(() => {});
  await output.until(/begun/);
  over.abort(handOver());
  await expect(left).rejects.toBe(over.signal.reason);
  rmSync(all.directory, { recursive: true, force: true });
  await expect(all.process(new Sink(), never, { from: 6 })).rejects.toThrow(/removed the runner's own files/);
  expect(readFileSync(count, "utf8")).toBe("x\n");
});

test("what is not settled stays until it is, however much has arrived", { timeout: 60_000 }, async () => {
  const all = await journey(
    "/bin/dash",
    process.env.PATH ?? "",
    "head -c 60000000 /dev/zero | tr '\\0' x; echo; echo end; sleep 300",
  );
  const over = new AbortController();
  const output = new Sink();
  // Of all that this process reads nothing is in a trace when it ends.
  const keeping = all.process(output, over.signal, { from: -100_000_000 }).catch(() => {});
  await all.until(output, 60_000_005);
  over.abort(handOver());
  await keeping;
  const next = new Sink();
  const canceling = new AbortController();
  const again = all.process(next, canceling.signal, { from: 0 });
  again.catch(() => {});
  await all.until(next, 60_000_005);
  canceling.abort(new Stop("canceled", "enough"));
  await expect(again).rejects.toBe(canceling.signal.reason);
});
