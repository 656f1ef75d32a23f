import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { Readable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import type { Exit } from "../../../src/executor/environment.ts";
import type { Argv } from "../../../src/shell.ts";
import { deadline, never, pause } from "../../../src/time.ts";
import { beforeAbort } from "./forward.ts";
import { listProcesses } from "./process-list.ts";

export interface ProgramCall {
  readonly argv: Argv;
  readonly workingDirectory: string;
  /** The whole environment: nothing else is inherited. */
  readonly environment: Readonly<Record<string, string>>;
  /** Whether stderr comes on stdout, in the order of writing, or by itself. */
  readonly stderr: "joined" | "apart";
}

/** A program of this machine, in a process group of its own, with nothing on stdin. */
export interface RunningProgram {
  /** The number of the process group. */
  readonly pid: number;
  /** Must be read or destroyed. Ends when all that holds the program's output has closed it. */
  readonly stdout: Readable;
  /** Empty where stderr comes on stdout. */
  readonly stderr: Readable;
  /** Settles with the program's own end; never rejects. */
  readonly exit: Promise<Exit>;
  /** SIGTERM to the group, SIGKILL after the grace. @returns how far it had to go; `survived`: it is still there */
  stop(graceMs: number, forceMs: number): Promise<"ended" | "killed" | "survived">;
  /**
   * Once a stopped program has ended: SIGKILL to what is left of its group after the grace.
   * @returns as `stop` does, for what the program has left
   */
  stopRest(graceMs: number, forceMs: number): Promise<"ended" | "killed" | "survived">;
}

const WINDOWS = process.platform === "win32";

/**
 * Gives the program pipes that can be opened by their names (`/dev/stderr`), which those of Node cannot, and reports its
 * status as soon as it is known, whoever still holds the output. The shells around it ignore SIGTERM, so that the program's
 * last output is still passed on.
 */
const JOINED = `{ trap : TERM; "$@" 2>&1 3>&-; echo "$?" >&3; } | (trap '' TERM; exec cat 3>&-)`;
const APART = `{ { { trap : TERM; "$@" 3>&- 2>&1 >&4 4>&-; echo "$?" >&3; } | (trap '' TERM; exec cat >&2 3>&- 4>&-); } 4>&1; } | (trap '' TERM; exec cat 3>&-)`;

const WRAPPERS = [JOINED, APART];
const LOOK_MS = 50;

const SIGNALS = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** A shell reports a death by signal N as 128 + N. */
export function exitOf(code: number): Exit {
  return { code, signal: code > 128 && code < 160 ? (SIGNALS.get(code - 128) ?? null) : null };
}

/** @throws {SystemFailure} it cannot be started */
export async function startProgram({
  argv,
  workingDirectory,
  environment,
  stderr,
}: ProgramCall): Promise<RunningProgram> {
  const [program, ...args]: readonly string[] = WINDOWS
    ? argv
    : ["/bin/sh", "-c", stderr === "joined" ? JOINED : APART, "alloy-runner", ...argv];
  const { promise: started, resolve, reject } = Promise.withResolvers<void>();
  let child: ChildProcess;
  try {
    child = spawn(program ?? "", args, {
      cwd: workingDirectory,
      env: environment,
      detached: !WINDOWS,
      windowsHide: true,
      stdio: ["ignore", "pipe", "pipe", "pipe"],
    });
  } catch (error) {
    throw startFailure(argv[0], error);
  }
  child.once("spawn", resolve);
  child.once("error", (error) => reject(startFailure(argv[0], error)));
  const exit = exitStatus(child);
  await started;
  // Its shells stay as long as something holds its output, and must not keep this process alive.
  void exit.then(() => child.unref());
  const { pid, stdout, stderr: errors } = child;
  if (pid === undefined || stdout === null || errors === null) throw startFailure(argv[0], undefined);
  return {
    pid,
    stdout,
    stderr: errors,
    exit,
    async stop(graceMs, forceMs) {
      signalGroup(child, pid, "SIGTERM");
      if (await within(exit, graceMs)) return "ended";
      signalGroup(child, pid, "SIGKILL");
      return (await within(exit, forceMs)) ? "killed" : "survived";
    },
    async stopRest(graceMs, forceMs) {
      if (WINDOWS || (await isClear(pid, graceMs))) return "ended";
      signalGroup(child, pid, "SIGKILL");
      return (await isClear(pid, forceMs)) ? "killed" : "survived";
    },
  };
}

/** Waits until nothing of the group is left but the shells and `cat`s around the program, which end with its output. */
async function isClear(group: number, ms: number): Promise<boolean> {
  const end = performance.now() + ms;
  for (;;) {
    const members = isGroup(group) ? (await listProcesses(never)).filter((one) => one.group === group) : [];
    if (members.every(({ args }) => args === "cat" || WRAPPERS.some((text) => args.startsWith(`/bin/sh -c ${text} `))))
      return true;
    if (performance.now() > end) return false;
    await pause(LOOK_MS, never);
  }
}

function isGroup(group: number): boolean {
  try {
    process.kill(-group, 0);
    return true;
  } catch {
    return false;
  }
}

async function within(exit: Promise<Exit>, ms: number): Promise<boolean> {
  using limit = deadline(never, ms, new Error("too long"));
  return (await beforeAbort(exit, limit.signal)) !== "aborted";
}

function exitStatus(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    const told = child.stdio[3];
    let text = "";
    const ended = new Promise<Exit>((settle) => {
      child.once("exit", (code, signal) =>
        settle(
          code !== null
            ? { code, signal: null }
            : { code: 128 + (constants.signals[signal ?? "SIGKILL"] ?? 9), signal },
        ),
      );
    });
    if (!(told instanceof Readable)) {
      void ended.then(resolve);
      return;
    }
    told.setEncoding("latin1");
    told.on("data", (more: string) => {
      text += more.slice(0, 10);
      const status = /^(\d{1,3})\n/.exec(text)?.[1];
      if (status !== undefined) resolve(exitOf(Number(status)));
    });
    told.on("error", () => {});
    // Where no status came, its shell was killed with it.
    told.on("close", () => {
      if (!/^\d/.test(text)) void ended.then((exit) => resolve(WINDOWS ? exit : { code: 137, signal: "SIGKILL" }));
    });
  });
}

function signalGroup(child: ChildProcess, pid: number, signal: NodeJS.Signals): void {
  try {
    if (WINDOWS) {
      const force = signal === "SIGKILL" ? ["/F"] : [];
      spawn("taskkill", ["/T", ...force, "/PID", String(pid)], { stdio: "ignore", windowsHide: true }).on("error", () =>
        child.kill(),
      );
    } else process.kill(-pid, signal);
  } catch {
    // Nothing of it is left.
  }
}

function startFailure(program: string, cause: unknown): SystemFailure {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  const busy = code === "EAGAIN" || code === "ENOMEM" || code === "EMFILE" || code === "ENFILE";
  const why =
    code === "E2BIG"
      ? "its environment is too large: a job's variables have to be fewer or smaller"
      : busy
        ? "this machine has no room for one more process"
        : `it cannot be executed (${String(code ?? "unknown")})`;
  return new SystemFailure(`Cannot start ${program}: ${why}`, { cause, retry: code !== "E2BIG" });
}
