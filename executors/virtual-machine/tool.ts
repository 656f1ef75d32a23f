import { once } from "node:events";
import type { Readable } from "node:stream";
import { SystemFailure } from "../../src/errors.ts";
import { deadline } from "../../src/time.ts";
import { beforeAbort } from "../common/forward.ts";
import { startProgram } from "../common/program.ts";

/** What one call of a hypervisor's program is for. */
export interface Call {
  readonly args: readonly string[];
  /** `clone the virtual machine "debian"`: what could not be done, where it could not. */
  readonly task: string;
  readonly limitMs: number;
  /** What to do where it fails, as a sentence. */
  readonly advice?: string;
}

export interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A hypervisor's program on this machine. Each call has a process group of its own, a time limit, and ends with its signal. */
export interface Tool {
  /** Whatever its status is. @throws {SystemFailure} it cannot be started, or took too long */
  ask(call: Call, signal: AbortSignal): Promise<Answer>;
  /** @returns what it printed. @throws {SystemFailure} its status is not 0 */
  run(call: Call, signal: AbortSignal): Promise<string>;
  /** What the answer was, as a failure. */
  failure(call: Call, answer: Answer): SystemFailure;
  /** Of the program, without directories: `VBoxManage`. */
  readonly name: string;
}

export interface ToolOptions {
  /** As people and sentences call it. */
  readonly name: string;
  readonly program: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
}

/** SIGTERM → SIGKILL: programs of hypervisors undo what they are at when they are asked to stop. */
const GRACE_MS = 15_000;
const FORCE_MS = 5000;
/** A program may have started what goes on holding its output. */
const LAST_WORDS_MS = 1000;
/** Of each stream; a machine with a hundred snapshots has some 100 KiB to say. */
const MOST_BYTES = 4 * 1024 * 1024;
const LONGEST_COMPLAINT = 600;

/** Looking, and small changes. */
export const QUICK_MS = 60_000;
/** Starting, saving and restoring what is in memory. */
export const STATE_MS = 10 * 60_000;
/** A disk may be copied. */
export const COPY_MS = 60 * 60_000;

export function createTool({ name, program, environment, workingDirectory }: ToolOptions): Tool {
  // In one language, as what is read from its output is.
  const around = { ...defined(environment), LC_ALL: "C", LANG: "C" };

  const failure = ({ args, task, advice }: Call, { code, stdout, stderr }: Answer): SystemFailure => {
    const said = complaint(stderr) || complaint(stdout) || "it did not say why";
    const how = `${name} ${wordsOf(args)} ended with status ${code}`;
    return new SystemFailure(`Cannot ${task}: ${said} (${how})${advice === undefined ? "" : `. ${advice}`}`, {
      retry: true,
      exitCode: code,
    });
  };

  const ask = async ({ args, task, limitMs }: Call, signal: AbortSignal): Promise<Answer> => {
    signal.throwIfAborted();
    const running = await startProgram({
      argv: [program, ...args],
      workingDirectory,
      environment: around,
      stderr: "apart",
    });
    const stdout = collect(running.stdout);
    const stderr = collect(running.stderr);
    const closed = Promise.all([stdout.closed, stderr.closed]);
    const words = `${name} ${wordsOf(args)}`;
    const tooLong = new SystemFailure(
      `Cannot ${task}: ${words} took longer than ${limitMs / 1000} s and was stopped. See on ${name}'s side whether it hangs`,
      { retry: true },
    );
    using limit = deadline(signal, limitMs, tooLong);
    try {
      const exit = await beforeAbort(running.exit, limit.signal);
      if (exit === "aborted") {
        const how = await running.stop(GRACE_MS, FORCE_MS);
        signal.throwIfAborted();
        if (how !== "survived") throw tooLong;
        throw new SystemFailure(`${tooLong.message}; process group ${running.pid} is still there after SIGKILL`);
      }
      using soon = deadline(signal, LAST_WORDS_MS, new Error("something still holds its output"));
      await beforeAbort(closed, soon.signal);
      signal.throwIfAborted();
      return { code: exit.code, stdout: stdout.text(), stderr: stderr.text() };
    } finally {
      running.stdout.destroy();
      running.stderr.destroy();
    }
  };

  return {
    name,
    ask,
    failure,
    run: async (call, signal) => {
      const answer = await ask(call, signal);
      if (answer.code !== 0) throw failure(call, answer);
      return answer.stdout;
    },
  };
}

/** The words that say what a call does: `clonevm`, `snapshot … restore`. */
function wordsOf(args: readonly string[]): string {
  const isWord = (one: string): boolean => /^-{0,2}[a-z]+[a-z0-9-]*$/.test(one);
  const [first = "", second = "", third = ""] = args;
  return isWord(third) && !third.startsWith("-") && !isWord(second) ? `${first} … ${third}` : first;
}

function complaint(text: string): string {
  // A progress bar is no reason.
  return text
    .replace(/(?:\d{1,3}%\.{3})+(?:\d{1,3}%)?/g, "")
    .split("\n")
    .map((line) => line.replace(/^VBoxManage(?:\.exe)?: error: /, "").replace(/[^\x20-\x7e\u00a0-\uffff]+/g, " "))
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .join("; ")
    .slice(0, LONGEST_COMPLAINT);
}

function collect(stream: Readable): { readonly closed: Promise<unknown>; text(): string } {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on("data", (chunk: Buffer) => {
    if (bytes < MOST_BYTES) chunks.push(chunk);
    bytes += chunk.length;
  });
  stream.on("error", () => {});
  return {
    closed: stream.closed ? Promise.resolve() : once(stream, "close").catch(() => {}),
    text: () => Buffer.concat(chunks).subarray(0, MOST_BYTES).toString("utf8"),
  };
}

function defined(environment: ToolOptions["environment"]): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
