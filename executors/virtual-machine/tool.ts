import { once } from "node:events";
import type { Readable } from "node:stream";
import { SystemFailure } from "../../src/errors.ts";
import { deadline } from "../../src/time.ts";
import { beforeAbort } from "../common/processes/forward.ts";
import { startProgram } from "../common/processes/program.ts";

/** What one call of a hypervisor's program is for. */
export interface Call {
  readonly args: readonly string[];
  /** `clone the virtual machine "debian"`: what could not be done, where it could not. */
  readonly task: string;
  readonly limitMs: number;
  /** What to do if the call fails, as a sentence. */
  readonly advice?: string;
}

export interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A hypervisor's program on this machine. Each call has a process group of its own, a time limit, and ends with its signal. */
export interface Tool {
  /**
   * Returns the answer whatever its status is.
   * @throws {SystemFailure} it cannot be started, or took too long
   */
  ask(call: Call, signal: AbortSignal): Promise<Answer>;
  /** @returns what it printed. @throws {SystemFailure} its status is not 0 */
  run(call: Call, signal: AbortSignal): Promise<string>;
  /** The failure that an answer stands for. */
  failure(call: Call, answer: Answer): SystemFailure;
  /** The failure that an answer of status 0 stands for which cannot be understood. */
  nonsense(call: Pick<Call, "task">): SystemFailure;
  /** Name of the program, without directories: `VBoxManage`. */
  readonly name: string;
}

export interface ToolOptions {
  /** The name that sentences use. */
  readonly name: string;
  readonly program: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
}

/** Time from SIGTERM to SIGKILL: programs of hypervisors undo their work when they are asked to stop. */
const GRACE_MS = 15_000;
const FORCE_MS = 5000;
/** A process that the program has started may still hold its output. */
const LAST_WORDS_MS = 1000;
/** Most bytes of each stream; a machine with a hundred snapshots prints some 100 KiB. */
const MOST_BYTES = 4 * 1024 * 1024;
const LONGEST_COMPLAINT = 600;

/** Limit for looks and small changes. */
export const QUICK_MS = 60_000;
/** Limit for starting a machine, and for saving and restoring its memory. */
export const STATE_MS = 10 * 60_000;
/** Limit for calls that may copy a disk. */
export const COPY_MS = 60 * 60_000;

export function createTool({ name, program, environment, workingDirectory }: ToolOptions): Tool {
  // The language is fixed, because the output is parsed.
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
    nonsense: ({ task }) => new SystemFailure(`Cannot ${task}: what ${name} says makes no sense`, { retry: true }),
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
  // A progress bar does not tell the reason.
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
