import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, readFile, rm } from "node:fs/promises";
import { SystemFailure } from "../../../src/errors.ts";
import { never, pause, unlessAborted } from "../../../src/time.ts";
import { inOneLine, type MachineProgram } from "./call.ts";

const WINDOWS = process.platform === "win32";
const LOOK_MS = 1_000;
const GRACE_MS = 10_000;
const MOST_READ = 16 * 1024;

/** Its status is on disk even where the runner that started it is no more. */
const SCRIPT = `"$@"; s=$?; echo "$s" > "$0.new" && mv -f "$0.new" "$0"; exit "$s"`;

/** A `docker-machine create` that goes on without the runner: it was asked to make something that costs money. */
export interface Making {
  /** Of its group: its drivers are in it. */
  readonly pid: number;
  /** Settles when it has ended; nobody waits for it longer than the signal lets them. @returns its status; `null`: unknown */
  ended(signal: AbortSignal): Promise<number | null>;
}

/** Where a creation writes what it prints, and its status. */
export interface MakingFiles {
  readonly output: string;
  readonly status: string;
}

/**
 * Starts it in a group of its own, with files for its output: a pipe would break with the runner, and end it in the middle of
 * what it does at the cloud.
 * @throws {SystemFailure} there is no such program
 */
export async function startMaking(
  { argv, environment }: Pick<MachineProgram, "argv" | "environment">,
  args: readonly string[],
  { output, status }: MakingFiles,
  workingDirectory: string,
): Promise<Making> {
  await rm(status, { force: true });
  await using log = await open(output, "w", 0o600);
  const whole = [...argv, ...args];
  const [program = "", ...rest] = WINDOWS ? whole : ["/bin/sh", "-c", SCRIPT, status, ...whole];
  const child = spawn(program, rest, {
    cwd: workingDirectory,
    env: environment,
    detached: true,
    windowsHide: true,
    stdio: ["ignore", log.fd, log.fd],
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  try {
    await once(child, "spawn");
  } catch (cause) {
    throw new SystemFailure(`Cannot start ${argv[0]}`, { cause, reason: "runner_configuration_error" });
  }
  // It does not keep the runner from ending.
  child.unref();
  return { pid: child.pid ?? 0, ended: (signal) => unlessAborted(ended, signal) };
}

/** One that the process before has started. */
export function foundMaking(pid: number, name: string, { status }: MakingFiles): Making {
  return {
    pid,
    async ended(signal) {
      while (await isMaking(pid, name)) await pause(LOOK_MS, signal);
      const text = await readFile(status, "utf8").catch(() => "");
      return /^\d+\n/.test(text) ? Number(text) : null;
    },
  };
}

/** Ends it and its drivers: by then it is no young one any more. */
export async function endMaking(pid: number, name: string): Promise<void> {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    if (!(await isMaking(pid, name))) return;
    try {
      process.kill(WINDOWS ? pid : -pid, signal);
    } catch {
      return;
    }
    for (const end = performance.now() + GRACE_MS; performance.now() < end && (await isMaking(pid, name)); ) {
      await pause(100, never);
    }
  }
}

/** What it printed last, for a sentence about its failure. */
export async function lastWords({ output }: MakingFiles): Promise<string> {
  try {
    await using file = await open(output, "r");
    const { size } = await file.stat();
    const from = Math.max(0, size - MOST_READ);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MOST_READ), 0, MOST_READ, from);
    return inOneLine(buffer.subarray(0, bytesRead).toString());
  } catch {
    return "";
  }
}

/** A process of that number which makes that machine, and no other one that got the number since. */
async function isMaking(pid: number, name: string): Promise<boolean> {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
  if (process.platform !== "linux") return true;
  const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return commandLine.includes(name);
}
