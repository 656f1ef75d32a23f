import { type ChildProcess, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { constants } from "node:os";
import type { Writable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import type { Exit } from "../../../src/executor/environment.ts";
import type { Argv } from "../../../src/shell.ts";
import { readPipe } from "../../common/processes/pipe.ts";
import { enlisted } from "../processes/enlisted.ts";
import type { ProcessTable } from "../processes/process-table.ts";
import type { PipePool } from "./fifo.ts";
import type { RunningScript, ShellCall } from "./running.ts";

export function startFailure(argv: Argv, cause: unknown): SystemFailure {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  const program = argv[0];
  const why =
    code === "EAGAIN" || code === "ENOMEM" || code === "EMFILE" || code === "ENFILE"
      ? "this machine has no room for one more process"
      : code === "E2BIG"
        ? "the environment that jobs inherit is too large"
        : code === "ENOEXEC"
          ? "it is made for another kind of machine"
          : "it cannot be executed";
  const retry = code === "EAGAIN" || code === "ENOMEM" || code === "EMFILE" || code === "ENFILE";
  return new SystemFailure(`Cannot start the shell "${program}": ${why}`, { cause, retry });
}

/** Start a program in a session of its own. @throws {SystemFailure} it did not start */
export async function startSession(
  argv: Argv,
  environment: NodeJS.ProcessEnv,
  stdio: readonly (number | "ignore")[],
): Promise<{ readonly child: ChildProcess; readonly pid: number }> {
  const [program, ...args] = argv;
  return new Promise((resolve, reject) => {
    try {
      const child = spawn(program, args, { cwd: "/", env: environment, detached: true, stdio: [...stdio] });
      child.once("error", (error) => reject(startFailure(argv, error)));
      const { pid } = child;
      if (pid === undefined) return; // the error follows
      resolve({ child, pid });
    } catch (error) {
      reject(startFailure(argv, error));
    }
  });
}

function signalNumber(name: NodeJS.Signals | null): number {
  return name === null ? 0 : (constants.signals[name] ?? 0);
}

export interface AttachedHost {
  readonly pipes: PipePool;
  readonly table: ProcessTable;
}

/**
 * The shell as a child of the runner's, whose output comes through a pipe: it ends with the runner.
 * @param from what it prints before this byte is known
 */
export async function startAttached(
  { pipes, table }: AttachedHost,
  { argv, environment, cgroup, input }: ShellCall,
  output: Writable,
  from: number,
): Promise<RunningScript> {
  const pipe = await pipes.take();
  let started: Awaited<ReturnType<typeof startSession>>;
  let exited: Promise<Exit>;
  try {
    started = await startSession(enlisted(argv, cgroup), environment, [input, pipe.writeFd, pipe.writeFd]);
    const { child } = started;
    exited = new Promise((settle) => {
      child.once("exit", (code, signal) => {
        settle(code !== null ? { code, signal: null } : { code: 128 + signalNumber(signal), signal });
      });
    });
  } catch (error) {
    closeSync(pipe.readFd);
    throw error;
  } finally {
    closeSync(pipe.writeFd);
  }
  const { child, pid } = started;
  const reader = readPipe(pipe.readFd, output, from);
  const startedAt = table.find(pid)?.startedAt ?? 0;
  return {
    reader,
    leader: Promise.resolve({ pid, startedAt }),
    since: startedAt,
    exited,
    lost: () => "nobody has seen its end",
    close: async () => {
      reader.close();
      child.unref(); // may be stuck in the kernel
    },
  };
}
