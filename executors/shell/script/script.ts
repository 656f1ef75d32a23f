import { type ChildProcess, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { constants } from "node:os";
import type { Writable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import type { Exit, Script } from "../../../src/executor.ts";
import type { Argv } from "../../../src/shell.ts";
import { never, pause } from "../../../src/time.ts";
import { notesOn } from "../../common/notes.ts";
import { beforeAbort, DRAIN_MS, drain, type Forwarding } from "../../common/processes/forward.ts";
import { type Ended, sayEnded } from "../../common/processes/say-ended.ts";
import type { Launch } from "../launch/launch.ts";
import type { Profile } from "../launch/profile.ts";
import type { Cgroup, Cgroups } from "../processes/cgroup.ts";
import { enlisted } from "../processes/enlisted.ts";
import type { JobMeter } from "../processes/job-meter.ts";
import { killedForMemory, outOfMemoryNote } from "../processes/out-of-memory.ts";
import type { ProcessTable } from "../processes/process-table.ts";
import { type Belonging, endMembers, findMembers } from "../processes/tree.ts";
import type { Pipe, PipePool } from "./fifo.ts";
import { readPipe } from "./pipe.ts";
import { openScript } from "./script-file.ts";

/** What scripts are run with, the same for all of a job. */
export interface ScriptHost {
  readonly launch: Launch;
  readonly profile: Profile;
  readonly pipes: PipePool;
  readonly table: ProcessTable;
  readonly cgroups: Cgroups | null;
  readonly scratchDir: string;
  /** Starts this program again. */
  readonly ownProgram: Argv;
  /** `NAME=value` in the environment of everything the job starts. */
  readonly mark: string;
  /** Names of control groups of this job begin with this, and those of no other job. */
  readonly groupPrefix: string;
  /** A number for the next control group, unique for the job. */
  nextGroup(): number;
  readonly meter: JobMeter;
  readonly killLeftovers: boolean;
  readonly killGraceMs: number;
  /** Shells that run now, of all jobs. */
  readonly shells: Set<number>;
  /** See `FilesHost`. */
  readonly keepsFiles: boolean;
}

/** What is still there that long after the end of the output, stays. */
const SETTLE_MS = 30;
/** From SIGKILL until a process is reported as one that cannot be ended. */
const STUCK_MS = 10_000;

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

interface Started {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Settles once; never rejects. */
  readonly exited: Promise<Exit>;
}

/** Start the shell in a session of its own. @throws {SystemFailure} it did not start */
async function start(argv: Argv, environment: NodeJS.ProcessEnv, input: number, pipe: number): Promise<Started> {
  const [program, ...args] = argv;
  return new Promise((resolve, reject) => {
    try {
      const child = spawn(program, args, {
        cwd: "/",
        env: environment,
        detached: true,
        stdio: [input, pipe, pipe],
      });
      child.once("error", (error) => reject(startFailure(argv, error)));
      const { pid } = child;
      if (pid === undefined) return; // the error follows
      const exited = new Promise<Exit>((settle) => {
        child.once("exit", (code, signal) => {
          settle(code !== null ? { code, signal: null } : { code: 128 + signalNumber(signal), signal });
        });
      });
      resolve({ child, pid, exited });
    } catch (error) {
      reject(startFailure(argv, error));
    }
  });
}

function signalNumber(name: NodeJS.Signals | null): number {
  return name === null ? 0 : (constants.signals[name] ?? 0);
}

/** `Environment.run` on this host. */
export async function runScript(
  host: ScriptHost,
  script: Script,
  output: Writable,
  signal: AbortSignal,
): Promise<Exit> {
  const { launch } = host;
  signal.throwIfAborted();
  if (script.command.scriptOn !== "stdin") {
    throw new SystemFailure(`The shell executor hands scripts to "${script.command.argv[0]}" on stdin only here`);
  }
  const equals = host.mark.indexOf("=");
  const learned = script.login ? {} : await host.profile.current();
  const argv = launch.command(script.command.argv, learned.PATH);
  const environment = {
    ...script.command.hastening,
    ...launch.environment,
    ...learned,
    [host.mark.slice(0, equals)]: host.mark.slice(equals + 1),
  };
  const killedBefore = killedForMemory();
  const cgroup = host.cgroups?.create(`${host.groupPrefix}${host.nextGroup()}`) ?? null;
  if (cgroup !== null) host.meter.group(cgroup);
  try {
    const input = await openScript(host.scratchDir, script.text);
    let pipe: Pipe;
    let started: Started;
    try {
      pipe = await host.pipes.take();
      try {
        started = await start(enlisted(argv, cgroup), environment, input, pipe.writeFd);
      } catch (error) {
        closeSync(pipe.readFd);
        throw error;
      } finally {
        closeSync(pipe.writeFd);
      }
    } finally {
      closeSync(input);
    }
    const reader = readPipe(pipe.readFd, output);
    try {
      const exit = await watch(host, { ...started, cgroup }, reader, output, signal);
      const note = exit.code === 0 ? null : outOfMemoryNote(killedBefore);
      if (note !== null) notesOn(output).print(note, "error");
      return exit;
    } finally {
      reader.close();
    }
  } finally {
    if (cgroup !== null) host.meter.groupEnded(cgroup);
    cgroup?.remove();
  }
}

/** From the shell's start until nothing of it is left. */
async function watch(
  { launch, table, mark, killGraceMs, killLeftovers, shells, meter }: ScriptHost,
  { child, pid, exited, cgroup }: Started & { readonly cgroup: Cgroup | null },
  reader: Forwarding,
  output: Writable,
  signal: AbortSignal,
): Promise<Exit> {
  const leader = { pid, startedAt: table.find(pid)?.startedAt ?? 0 };
  const since = leader.startedAt;
  const belonging: Belonging = { table, mark, uid: launch.uid, leader, since, cgroup, others: shells };
  shells.add(pid);
  meter.shell(pid);
  void exited.then(() => {
    // Its number may go to another process from then on.
    shells.delete(pid);
    meter.shellEnded(pid);
  });
  const end = (): Promise<Ended> => endMembers({ belonging, graceMs: killGraceMs, limitMs: STUCK_MS });

  const exit = await beforeAbort(exited, signal);
  if (exit === "aborted") {
    const result = await end();
    await drain(reader, DRAIN_MS);
    sayEnded(output, reader, result, killGraceMs, false);
    child.unref(); // may be stuck in the kernel
    throw signal.reason;
  }
  await beforeAbort(drain(reader, Infinity), signal);
  // An empty control group answers without a look at all processes of the machine.
  if (killLeftovers && cgroup?.pids().length !== 0 && (await findMembers(belonging)).length > 0) {
    // What has just closed its output may be on its way out: that is no leftover.
    await pause(SETTLE_MS, never);
    const result = await end();
    if (result.ended.length > 0) await beforeAbort(drain(reader, Infinity, { patienceMs: 0 }), signal);
    sayEnded(output, reader, result, killGraceMs, true);
  }
  return exit;
}
