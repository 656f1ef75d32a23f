import { randomBytes } from "node:crypto";
import { access, constants, mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Writable } from "node:stream";
import { ScriptFailure, Stop, SystemFailure } from "../../../src/errors.ts";
import type { Exit } from "../../../src/executor/environment.ts";
import { deadline } from "../../../src/time.ts";
import { beforeAbort, DRAIN_MS, drain, type Forwarding, forward } from "../../common/processes/forward.ts";
import { exitOf, type RunningProgram, startProgram } from "../../common/processes/program.ts";
import { say } from "../../common/processes/say-ended.ts";
import type { DriverProgram, KillLimits } from "../settings.ts";
import { saidIn } from "./said-file.ts";
import { usageFile } from "./usage.ts";

export const BUILD_FAILURE = 1;
export const SYSTEM_FAILURE = 2;

/** What all calls of one job's driver share: where its programs work, and with what environment. */
export interface DriverHost {
  /** Private to the job, 0700: working directory and `TMPDIR` of all programs. */
  readonly dir: string;
  /** Base of relative paths of programs. */
  readonly workingDirectory: string;
  /** All of their environment but what differs from call to call. */
  readonly environment: Readonly<Record<string, string>>;
  readonly limits: KillLimits;
  /** Time from SIGTERM to SIGKILL when the runner itself stops. */
  readonly stopGraceMs: number;
}

export interface DriverCall {
  readonly program: DriverProgram;
  /** Arguments after the program's own. */
  readonly args?: readonly string[];
  readonly stage?: string;
  readonly stderr: "joined" | "apart";
}

/** A call that has begun. */
export interface DriverRun {
  readonly name: string;
  readonly running: RunningProgram;
  /**
   * Waits for the program's end, at most for its time limit.
   * @throws {SystemFailure} it took too long
   * @throws the signal's reason; in both cases the program was stopped, and `output` says what that took
   */
  ended(reader: Forwarding, output: Writable | null, signal: AbortSignal): Promise<Exit>;
  /** What its status means. @throws {SystemFailure} it is no answer of a script */
  verdict(exit: Exit): Promise<Exit>;
  /** Removes what belongs to this call alone. */
  close(): Promise<void>;
  /** Directory that is private to this call, for its script. */
  readonly callDir: string;
}

/** `run_exec (/opt/driver/run) at stage get_sources` */
export function nameCall({ program, stage }: Pick<DriverCall, "program" | "stage">): string {
  return `${program.key} (${program.path})${stage === undefined ? "" : ` at stage ${stage}`}`;
}

/** A directory of its own for each call, so that nobody reads what the call before has left. */
export async function makeCallDir({ dir }: DriverHost): Promise<string> {
  const callDir = join(dir, `call-${randomBytes(6).toString("hex")}`);
  await mkdir(callDir, { mode: 0o700 }).catch((cause: unknown) => {
    throw new SystemFailure(`The private directory ${dir} of the job cannot be used: is it gone?`, { cause });
  });
  return callDir;
}

/** @throws {SystemFailure} it cannot be started */
export async function startCall(host: DriverHost, call: DriverCall, callDir: string): Promise<DriverRun> {
  const { program, args = [], stage, stderr } = call;
  const name = nameCall(call);
  const path = /[/\\]/.test(program.path) ? resolve(host.workingDirectory, program.path) : program.path;
  if (path !== program.path || path.startsWith("/")) {
    await access(path, constants.X_OK).catch((cause: unknown) => {
      throw new SystemFailure(`${name} cannot be started: it is not there, or not executable`, { cause, retry: true });
    });
  }
  const codeFile = join(callDir, "build_exit_code");
  const running = await startProgram({
    argv: [path, ...program.args, ...args],
    workingDirectory: host.dir,
    environment: { BUILD_EXIT_CODE_FILE: codeFile, JOB_USAGE_FILE: usageFile(callDir), ...host.environment },
    stderr,
  });
  return {
    name,
    running,
    callDir,
    async ended(reader, output, signal) {
      const seconds = program.timeoutMs / 1000;
      const tooLong = new SystemFailure(`${name} took longer than ${seconds} s (${program.key}_timeout)`);
      using limit = deadline(signal, program.timeoutMs, tooLong);
      const exit = await beforeAbort(running.exit, limit.signal);
      if (exit !== "aborted") return exit;
      const how = await stop(host, running, signal);
      await drain(reader, DRAIN_MS);
      if (signal.aborted) {
        if (output !== null)
          say(
            output,
            reader,
            how.bad ? "error" : "warning",
            `${how.bad ? "ERROR" : "WARNING"}: Stopped ${name}${how.text}`,
          );
        throw signal.reason;
      }
      throw new SystemFailure(`${tooLong.message}${how.text}`);
    },
    verdict: (exit) => verdictOf(name, exit, codeFile, stage === undefined),
    close: () => rm(callDir, { recursive: true, force: true }).catch(() => {}),
  };
}

async function stop(
  { limits, stopGraceMs }: DriverHost,
  running: RunningProgram,
  signal: AbortSignal,
): Promise<{ readonly bad: boolean; readonly text: string }> {
  const ending = signal.aborted && signal.reason instanceof Stop && signal.reason.why === "shutting_down";
  const graceMs = ending ? Math.min(limits.gracefulMs, stopGraceMs) : limits.gracefulMs;
  const { how, text } = await stopGroup(running, { gracefulMs: graceMs, forceMs: limits.forceMs });
  return { bad: how === "survived", text };
}

/** Ends a program and all of its process group. @returns how far it had to go, and that as the end of a sentence */
export async function stopGroup(
  running: RunningProgram,
  { gracefulMs, forceMs }: KillLimits,
): Promise<{ readonly how: "ended" | "killed" | "survived"; readonly text: string }> {
  const startMs = performance.now();
  const program = await running.stop(gracefulMs, forceMs);
  // The rest of the group got SIGTERM with the program, and has the same time.
  const leftMs = Math.max(0, gracefulMs - (performance.now() - startMs));
  const how = program === "ended" ? await running.stopRest(leftMs, forceMs) : program;
  const who = program === "ended" ? "what it had started" : "it";
  const texts = {
    ended: "",
    killed: `; ${who} ignored SIGTERM for ${gracefulMs / 1000} s and was killed`,
    survived: `; ${who} is still there ${forceMs / 1000} s after SIGKILL and was given up: process group ${running.pid}`,
  };
  return { how, text: texts[how] };
}

/** The contract of GitLab Runner: 1 is the script's failure, 2 the system's, anything else is a driver that does not keep to it. */
async function verdictOf(name: string, exit: Exit, codeFile: string, whole: boolean): Promise<Exit> {
  if (exit.code === 0) return exit;
  if (exit.code === SYSTEM_FAILURE) {
    throw new SystemFailure(`${name} ended with status ${SYSTEM_FAILURE}: it calls this a failure of the system`, {
      retry: true,
      exitCode: exit.code,
    });
  }
  if (exit.code !== BUILD_FAILURE) {
    const how = exit.signal === null ? `with status ${exit.code}` : `by ${exit.signal}`;
    throw new SystemFailure(
      `${name} ended ${how}. A script that fails is BUILD_FAILURE_EXIT_CODE (${BUILD_FAILURE}), with its status in BUILD_EXIT_CODE_FILE; everything else is taken for a failure of the system`,
      { retry: true, exitCode: exit.code },
    );
  }
  const [line = ""] = ((await saidIn(codeFile)) ?? "1").split(/\r?\n/);
  if (!/^\d{1,3}$/.test(line) || Number(line) === 0 || Number(line) > 255) {
    const shown = JSON.stringify(line.slice(0, 40));
    throw new SystemFailure(
      `${name} ended with status ${BUILD_FAILURE} and wrote ${shown} to BUILD_EXIT_CODE_FILE. Expected a number from 1 to 255`,
      { retry: true },
    );
  }
  const code = Number(line);
  if (whole) throw new ScriptFailure(`${name} says that the job cannot be run (status ${code})`, { exitCode: code });
  return exitOf(code);
}

/** Run a program whose output belongs in the trace, to its end. */
export async function runCall(
  host: DriverHost,
  call: DriverCall,
  output: Writable,
  signal: AbortSignal,
): Promise<Exit> {
  signal.throwIfAborted();
  const callDir = await makeCallDir(host);
  const run = await startCall(host, call, callDir).catch(async (error: unknown) => {
    await rm(callDir, { recursive: true, force: true });
    throw error;
  });
  const reader = forward(run.running.stdout, output);
  run.running.stderr.resume();
  try {
    const exit = await run.ended(reader, output, signal);
    await beforeAbort(drain(reader, Number.POSITIVE_INFINITY), signal);
    return await run.verdict(exit);
  } finally {
    reader.close();
    run.running.stderr.destroy();
    await run.close();
  }
}
