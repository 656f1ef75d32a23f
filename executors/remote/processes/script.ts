import { constants } from "node:os";
import type { Writable } from "node:stream";
import { describeError, handsOver, SystemFailure } from "../../../src/errors.ts";
import type { Exit, Script, ScriptKeeping } from "../../../src/executor/environment.ts";
import type { JobUsage } from "../../../src/job/job.ts";
import { deadline, never } from "../../../src/time.ts";
import {
  beforeAbort,
  DRAIN_MS,
  type DrainOptions,
  drain,
  type Forwarding,
  forward,
} from "../../common/processes/forward.ts";
import { type Ended, type Say, sayEnded, sayerOf, sayingTo } from "../../common/processes/say-ended.ts";
import type { RemoteCommands, RemoteProcess, ScriptCommands } from "../commands.ts";
import type { RemoteTools } from "../tools.ts";
import { type Begun, begunBy } from "./begun.ts";
import { endTree, type ScriptRoot } from "./end-tree.ts";
import { leftAlone, outOfMemoryNote, usedBy } from "./farewell.ts";
import { ATTEND, ATTEND_WRITERS, LAUNCH } from "./process-programs.ts";

export interface RemoteScriptHost {
  /**
   * Starts the script, in the environment that `script.runIn` names. `exit` of what it starts must settle soon after the
   * program has ended, also while something it left behind keeps its output open; `stdout` ends when all have closed it.
   */
  readonly scripts: ScriptCommands;
  /** Runs what finds and ends processes: must see those of `scripts` and have the same rights, or more. */
  readonly commands: RemoteCommands;
  /** Of the environment that the script runs in. */
  readonly tools: RemoteTools;
  /** `jobMark(jobKey)`; each script gets one of its own that begins with it. */
  readonly mark: string;
  /** Only for shells that take their script from a file: a directory where it is saved (0600) until the shell has ended. */
  readonly scriptDir: string;
  readonly killLeftovers: boolean;
  readonly killGraceMs: number;
  /** `stdout` of `scripts` ends with the program that was started, whoever else still holds it open. */
  readonly outputEndsEarly?: boolean;
  /**
   * After processes were ended by `commands`: makes sure of it from outside, where the place can be seen from there.
   * @param known what `commands` know; `null`: nothing
   * @param stopped the script was stopped, so that nothing of it may be left; else it had ended and left something
   * @returns what holds then; `null`: still nothing is known
   */
  readonly makeSure?: (known: Ended | null, stopped: boolean) => Promise<Ended | null>;
  /** The place itself has ended, and with it all that ran there. Asked where that cannot be found out by `commands`. */
  readonly isGone?: () => Promise<boolean>;
  /** For messages: `container 3f2a… on build-07`. */
  readonly where: string;
  /** Told what a script has used that came to its end. */
  readonly onUsed?: (usage: JobUsage) => void;
  /** The whole machine is the script's place, so that it says where its memory was too little; else whoever made the place does. */
  readonly isMachine?: boolean;
}

/** From SIGKILL until a process is reported as one that cannot be ended. */
const STUCK_MS = 10_000;
/** After a stop: how long a start that is under way may still take before it is given up. */
const LATE_START_MS = 10_000;
/** Where nothing is left that could hold the output, its end comes, however slow the connection is. */
const END_PATIENCE_MS = 10_000;
/** What connections hold at most of what was printed: windows of SSH, buffers of engines and proxies. */
const CAPACITY_BYTES = 16 * 1024 * 1024;

const SIGNALS = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** A shell reports a death by signal N as 128 + N; whether a script said so itself cannot be told. */
function exitOf(code: number): Exit {
  return { code, signal: code > 128 && code < 160 ? (SIGNALS.get(code - 128) ?? null) : null };
}

/**
 * `Environment.run`, whole: start, output, stop, leftovers. What is left to another process (`handsOver`) goes on; that all of it
 * is kept (`ScriptKeeping.ended`) is for the caller to say, once nothing more is to come of it.
 */
export async function runRemoteScript(
  host: RemoteScriptHost,
  script: Script,
  output: Writable,
  signal: AbortSignal,
): Promise<Exit> {
  const begun = begunBy(script.keeping);
  if (signal.aborted && (!begun.again || handsOver(signal))) throw signal.reason;
  const { tools, where } = host;
  const { argv, scriptOn, extension } = script.command;
  const { nonce, lasting } = begun;
  const file = scriptOn === "file" ? `${host.scriptDir}/script-${nonce}${extension}` : "";
  const setsid = tools.programs.get("setsid") ?? "";
  // The job's mark begins it: the job's end finds what a script's end must leave to other scripts of the same job.
  const own = { ...host, mark: host.mark + nonce };
  if (signal.aborted && !begun.started) {
    // Nobody has seen it run, and it is not started any more: what may run of it ends.
    await end(own, null, true);
    throw signal.reason;
  }
  const connection = new AbortController();
  const starting = host.scripts.start(
    {
      script: LAUNCH,
      args: [nonce, own.mark, setsid, tools.sh, host.outputEndsEarly ? ATTEND_WRITERS : ATTEND, file, ...argv],
      stdin: Buffer.from(script.text),
      ...(lasting === undefined ? {} : { lasting }),
    },
    connection.signal,
  );
  try {
    const process = await startedBefore(starting, connection, signal);
    process.exit.catch(() => {}); // its failure is thrown where it is awaited
    const naming = { begun, program: argv[0], where };
    return await watch(own, process, naming, { output, keeping: script.keeping }, signal);
  } finally {
    connection.abort(new Error("the script has ended"));
  }
}

/** A script that was stopped before it had started is stopped once it has. */
async function startedBefore(
  starting: Promise<RemoteProcess>,
  connection: AbortController,
  signal: AbortSignal,
): Promise<RemoteProcess> {
  const process = await beforeAbort(starting, signal);
  if (process !== "aborted") return process;
  if (handsOver(signal)) {
    // Whoever goes on with it starts it, if it has not been.
    starting.catch(() => {});
    connection.abort(signal.reason);
    throw signal.reason;
  }
  using limit = deadline(never, LATE_START_MS, new Error("it does not start"));
  const late = await beforeAbort(
    starting.catch(() => null),
    limit.signal,
  );
  if (late !== null && late !== "aborted") return late;
  connection.abort(signal.reason);
  throw signal.reason;
}

interface Naming {
  readonly begun: Begun;
  readonly program: string;
  readonly where: string;
}

/** Where what comes of it goes. */
interface Told {
  readonly output: Writable;
  readonly keeping: ScriptKeeping | undefined;
}

/** From the shell's start until nothing of it is left, or until it is left as it is to another process. */
async function watch(
  host: RemoteScriptHost,
  { stdout, exit, isAway }: RemoteProcess,
  { begun, program, where }: Naming,
  { output, keeping }: Told,
  signal: AbortSignal,
): Promise<Exit> {
  const introduction = begun.introduction(stdout);
  const reader = forward(introduction.rest, output);
  const say = sayerOf(keeping, sayingTo(output, reader));
  try {
    const ended = await beforeAbort(exit, signal);
    if (ended === "aborted") {
      if (!handsOver(signal)) await stop(host, introduction.root, reader, say);
      throw signal.reason;
    }
    const way = { capacityBytes: CAPACITY_BYTES, ...(isAway === undefined ? {} : { isAway }) };
    const patienceMs = leftAlone(ended.stderr) ? END_PATIENCE_MS : DRAIN_MS;
    await beforeAbort(drain(reader, Infinity, { ...way, patienceMs }), signal);
    if (handsOver(signal)) throw signal.reason;
    if (introduction.said === "missing") {
      throw new SystemFailure(`There is no shell "${program}" in ${where}`, { reason: "runner_system_failure" });
    }
    if (introduction.said === "unwritable") {
      throw new SystemFailure(`Cannot save a script in ${host.scriptDir} of ${where}: ${ended.stderr.trim()}`);
    }
    if (introduction.said === null) {
      const why = ended.stderr.trim().slice(-500) || `status ${ended.code} and no word`;
      throw new SystemFailure(`Cannot start the shell "${program}" in ${where}: ${why}`);
    }
    if (host.killLeftovers && !leftAlone(ended.stderr))
      await endLeftovers(host, { root: introduction.root, reader, say, way }, signal);
    host.onUsed?.(usedBy(ended.stderr));
    const note = host.isMachine === true && ended.code !== 0 ? outOfMemoryNote(ended.stderr, where) : null;
    if (note !== null) say("error", note);
    return exitOf(ended.code);
  } finally {
    reader.close();
    stdout.destroy();
  }
}

/** Ends what is the script's. @returns `trouble`: why nothing is known of it */
async function end(
  host: RemoteScriptHost,
  root: ScriptRoot | null,
  stopped: boolean,
): Promise<{ readonly result: Ended } | { readonly trouble: unknown }> {
  const { commands, mark, killGraceMs: graceMs, makeSure } = host;
  let result: Ended | null = null;
  let trouble: unknown = null;
  try {
    result = await endTree(commands, { mark, root, graceMs, limitMs: STUCK_MS }, never);
  } catch (error) {
    trouble = error;
  }
  if (makeSure !== undefined) result = await makeSure(result, stopped);
  return result === null ? { trouble } : { result };
}

/** What is still there after a stop is named; that it cannot be found out is said, too. */
async function stop(host: RemoteScriptHost, root: ScriptRoot | null, reader: Forwarding, say: Say): Promise<void> {
  const how = await end(host, root, true);
  if ("trouble" in how) return await sayUnknown(host, say, how.trouble);
  await drain(reader, DRAIN_MS);
  sayEnded(say, how.result, host.killGraceMs, false);
}

interface Leaving {
  readonly root: ScriptRoot | null;
  readonly reader: Forwarding;
  readonly say: Say;
  readonly way: DrainOptions;
}

async function endLeftovers(
  host: RemoteScriptHost,
  { root, reader, say, way }: Leaving,
  signal: AbortSignal,
): Promise<void> {
  const how = await end(host, root, false);
  if ("trouble" in how) return await sayUnknown(host, say, how.trouble);
  if (how.result.ended.length > 0) await beforeAbort(drain(reader, Infinity, { ...way, patienceMs: 0 }), signal);
  // Who could have printed more has been ended.
  if (handsOver(signal)) await drain(reader, DRAIN_MS, { ...way, patienceMs: 0 });
  sayEnded(say, how.result, host.killGraceMs, true);
}

async function sayUnknown({ where, isGone }: RemoteScriptHost, say: Say, error: unknown): Promise<void> {
  if (await isGone?.()) return;
  say(
    "error",
    `ERROR: Whether the script's processes in ${where} have ended could not be confirmed: ${describeError(error)}`,
  );
}
