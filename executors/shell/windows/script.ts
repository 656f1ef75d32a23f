import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join, win32 } from "node:path";
import type { Readable, Writable } from "node:stream";
import { ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import type { Exit, Script } from "../../../src/executor/environment.ts";
import { never } from "../../../src/time.ts";
import { beforeAbort, DRAIN_MS, drain, forward } from "../../common/processes/forward.ts";
import { sayEnded, sayingTo } from "../../common/processes/say-ended.ts";
import { startFailure } from "../script/attached.ts";
import { commandFor, type WindowsCommand } from "./command.ts";
import { descendantsOf, fileTime, listProcesses, type Root, stopProcesses } from "./processes.ts";
import { removeOnWindows } from "./remove.ts";
import { mergeVariables } from "./surroundings.ts";

/** What scripts are run with, the same for all of a job. */
export interface WindowsHost {
  readonly environment: Readonly<Record<string, string>>;
  readonly systemRoot: string;
  /** Private to the runner. */
  readonly scratchDir: string;
  /** Stands in the command line of each shell of the job, so that it can be found again. */
  readonly jobKey: string;
  /** The shells of the job so far, for what they leave behind. */
  readonly roots: Root[];
  readonly killLeftovers: boolean;
  readonly killGraceMs: number;
}

const STUCK_MS = 10_000;
/** Clocks of processes and ours may differ by a few ticks. */
const SLACK_MS = 50;
/** Of one variable, on Windows. */
const LONGEST_VALUE = 32_766;

interface Started {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly stdout: Readable;
  readonly exited: Promise<Exit>;
}

/** The script and its parts in a directory of their own. @throws {SystemFailure} it cannot be written */
async function saveScript(dir: string, script: Script): Promise<string> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    for (const [name, content] of Object.entries(script.parts?.files ?? {})) await writeFile(join(dir, name), content);
    const path = join(dir, `script${script.command.extension}`);
    await writeFile(path, script.text);
    return path;
  } catch (cause) {
    throw new SystemFailure(`Cannot save a script in ${dir}`, { cause, retry: true });
  }
}

function environmentOf(host: WindowsHost, { parts, command }: Script, dir: string): Record<string, string> {
  for (const [name, value] of Object.entries(parts?.environment ?? {})) {
    if (value.length <= LONGEST_VALUE) continue;
    throw new ScriptFailure(
      `The variable ${name} holds ${value.length} characters, and Windows takes ${LONGEST_VALUE}: use a file variable`,
    );
  }
  const own = parts === undefined ? {} : { [parts.directoryVariable]: dir };
  return mergeVariables(command.hastening ?? {}, host.environment, parts?.environment ?? {}, own);
}

async function start({ program, args }: WindowsCommand, env: Record<string, string>, cwd: string): Promise<Started> {
  return new Promise((resolve, reject) => {
    try {
      // Not detached: that would be without a console, and then each program would open one of its own.
      const child = spawn(program, [...args], {
        cwd,
        env,
        stdio: ["ignore", "pipe", "ignore"],
        windowsHide: true,
        windowsVerbatimArguments: true,
      });
      child.once("error", (error) => reject(startFailure([program], error)));
      const { pid, stdout } = child;
      if (pid === undefined) return; // the error follows
      const exited = new Promise<Exit>((settle) => {
        // Statuses of Windows are 32 bits, and people know them with a sign: -1073741819.
        child.once("exit", (code, signal) => settle({ code: code === null ? 1 : code | 0, signal }));
      });
      resolve({ child, pid, stdout, exited });
    } catch (error) {
      reject(startFailure([program], error));
    }
  });
}

/** `Environment.run` on Windows. */
export async function runOnWindows(
  host: WindowsHost,
  script: Script,
  output: Writable,
  signal: AbortSignal,
): Promise<Exit> {
  signal.throwIfAborted();
  const dir = join(host.scratchDir, `${host.jobKey}-${randomUUID()}`);
  try {
    const path = await saveScript(dir, script);
    const command = commandFor(script, path, host.systemRoot);
    const startedAt = fileTime(-SLACK_MS);
    const started = await start(command, environmentOf(host, script, dir), host.systemRoot);
    const reader = forward(started.stdout, output);
    const root = (): Root => ({ pid: started.pid, startedAt, endedAt: fileTime(SLACK_MS) });
    try {
      const exit = await beforeAbort(started.exited, signal);
      if (exit === "aborted") {
        const members = descendantsOf(await listProcesses(), [root()]);
        const alone = {
          pid: started.pid,
          parent: 0,
          group: 0,
          session: 0,
          startedAt: 0,
          name: win32.basename(command.program),
        };
        const result = await stopProcesses(members.length > 0 ? members : [alone], {
          polite: members.length > 0,
          graceMs: host.killGraceMs,
          limitMs: STUCK_MS,
        });
        await drain(reader, DRAIN_MS);
        sayEnded(sayingTo(output, reader), result, host.killGraceMs, false);
        started.child.unref();
        throw signal.reason;
      }
      const ended = root();
      host.roots.push(ended);
      await beforeAbort(drain(reader, Number.POSITIVE_INFINITY), signal);
      // Whoever was left has nearly always kept the output; to look costs half a second, so the rest is the job's end's.
      if (host.killLeftovers && !(await reader.ended(0))) {
        const members = descendantsOf(await listProcesses(), [ended]);
        const result = await stopProcesses(members, { polite: false, graceMs: 0, limitMs: STUCK_MS });
        if (result.ended.length > 0) {
          await beforeAbort(drain(reader, Number.POSITIVE_INFINITY, { patienceMs: 0 }), signal);
        }
        sayEnded(sayingTo(output, reader), result, 0, true);
      }
      return exit;
    } finally {
      reader.close();
    }
  } finally {
    // Holds secrets. What cannot be removed now goes with the scratch directory.
    await removeOnWindows(dir, never).catch(() => {});
  }
}
