import { once } from "node:events";
import { lstat, mkdir, rm, writeFile } from "node:fs/promises";
import { StringDecoder } from "node:string_decoder";
import { describeError, Stop, SystemFailure } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import { deadline, pause } from "../../../src/time.ts";
import { beforeAbort } from "../../common/processes/forward.ts";
import { type DriverHost, makeCallDir, startCall, stopGroup } from "../driver/call.ts";
import { responseFile } from "../driver/driver-environment.ts";
import { type KeptJob, letGo } from "./kept.ts";

const ATTEMPTS = 3;
const PAUSE_MS = 2000;
const LAST_WORDS_MS = 1000;
/** Most characters of a line that the program prints. */
const LONGEST_LINE = 1000;
/** A longer one comes in pieces, and a secret that lies across two of them would be seen. */
const LONGEST_HELD = 1024 * 1024;

export interface CleanUpOptions {
  readonly host: DriverHost;
  readonly job: Pick<KeptJob, "cleanup" | "payload" | "jobKey" | "secrets">;
  /** File of the job's place, which is released in the end. */
  readonly file: string;
  readonly log: Log;
  /** Pause before another try. */
  readonly pauseMs?: number;
}

/**
 * Run `cleanup_exec`, again where it fails, all within its time limit; then let go of everything on this machine.
 * @returns why it is not done; `null`: it is, or there is none. Never rejects, but with the signal's reason.
 */
export async function cleanUp(options: CleanUpOptions, signal: AbortSignal): Promise<string | null> {
  const { host, job, file, log } = options;
  let problem: string | null = null;
  if (job.cleanup !== null) problem = await tryAll(options, { ...job.cleanup, key: "cleanup_exec" }, signal);
  await rm(host.dir, { recursive: true, force: true }).catch((error: unknown) => {
    log.warn("cannot remove the directory of a job", { dir: host.dir, problem: describeError(error) });
  });
  await letGo(file);
  return problem;
}

type Program = NonNullable<KeptJob["cleanup"]> & { readonly key: "cleanup_exec" };

async function tryAll(
  { host, job, log, pauseMs = PAUSE_MS }: CleanUpOptions,
  program: Program,
  signal: AbortSignal,
): Promise<string | null> {
  const tooLong = new Stop(
    "timed_out",
    `it took longer than ${program.timeoutMs / 1000} s in all (cleanup_exec_timeout)`,
  );
  using limit = deadline(signal, program.timeoutMs, tooLong);
  let problem = "";
  for (let attempt = 1; ; attempt++) {
    try {
      await tryOnce(host, job, { ...program, timeoutMs: Number.POSITIVE_INFINITY }, log, limit.signal);
      return null;
    } catch (error) {
      signal.throwIfAborted();
      problem = `cleanup_exec (${program.path}): ${describeError(error)}`;
    }
    if (attempt >= ATTEMPTS || limit.signal.aborted) {
      log.error("what a job ran in may still be there: its clean-up has failed, and is not tried again", {
        job_key: job.jobKey,
        attempts: attempt,
        problem,
      });
      return problem;
    }
    log.warn("the clean-up of a job has failed, and is tried again", { job_key: job.jobKey, attempt, problem });
    await pause(pauseMs, limit.signal).catch(() => signal.throwIfAborted());
  }
}

/**
 * The directory may have gone with a restart of the machine, and another user may have taken its name by now.
 * @throws {SystemFailure} it is not the runner's: what is written there is secret
 */
export async function restoreDir(dir: string, payload: string): Promise<void> {
  try {
    await mkdir(dir, { mode: 0o700 });
  } catch (cause) {
    const there = await lstat(dir).catch(() => null);
    const uid = process.getuid?.();
    if (!there?.isDirectory() || (uid !== undefined && there.uid !== uid)) {
      throw new SystemFailure(`${dir} cannot be made, or is not a directory of the runner's account`, { cause });
    }
  }
  await writeFile(responseFile(dir), payload, { mode: 0o600 });
}

async function tryOnce(
  host: DriverHost,
  { payload, secrets }: Pick<KeptJob, "payload" | "secrets">,
  program: Program,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  await restoreDir(host.dir, payload);
  const callDir = await makeCallDir(host);
  const run = await startCall(host, { program, stderr: "apart" }, callDir);
  const hide = hiding(secrets);
  const shown = (line: string) => ({ line: hide(line).slice(0, LONGEST_LINE) });
  const lines = eachLine((line) => log.debug("cleanup_exec", shown(line)));
  const complaints = eachLine((line) => log.warn("cleanup_exec", shown(line)));
  run.running.stdout.on("data", lines.add).on("error", () => {});
  run.running.stderr.on("data", complaints.add).on("error", () => {});
  const said = Promise.all([once(run.running.stdout, "close"), once(run.running.stderr, "close")]).catch(() => {});
  try {
    const ended = await unlessStopped(run.running.exit, signal, async () => {
      const { text } = await stopGroup(run.running, host.limits);
      throw new SystemFailure(`${describeError(signal.reason)}${text}`);
    });
    // The program's last output may still be on its way.
    using soon = deadline(signal, LAST_WORDS_MS, new Error("something still holds its output"));
    await beforeAbort(said, soon.signal);
    if (ended.code !== 0) throw new SystemFailure(`it ended with status ${ended.code}`);
  } finally {
    run.running.stdout.destroy();
    run.running.stderr.destroy();
    lines.end();
    complaints.end();
    await run.close();
  }
}

async function unlessStopped<T>(work: Promise<T>, signal: AbortSignal, stop: () => Promise<never>): Promise<T> {
  const fired = Promise.withResolvers<"stopped">();
  const onAbort = (): void => fired.resolve("stopped");
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  try {
    const first = await Promise.race([work, fired.promise]);
    return first === "stopped" ? await stop() : first;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

interface EachLine {
  add(chunk: Buffer): void;
  /** What came last may have no newline. */
  end(): void;
}

function eachLine(take: (line: string) => void): EachLine {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  const say = (line: string): void => {
    if (line.trim() !== "") take(line);
  };
  return {
    add: (chunk) => {
      const lines = (rest + decoder.write(chunk)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) say(line);
      if (rest.length <= LONGEST_HELD) return;
      say(rest);
      rest = "";
    },
    end: () => {
      say(rest + decoder.end());
      rest = "";
    },
  };
}

/** Shorter values are found in any line. */
const SHORTEST_SECRET = 4;

/**
 * After a crash nobody else knows which values of a dead job are secret. Of a value with line breaks, each line is
 * hidden.
 */
function hiding(secrets: readonly string[]): (line: string) => string {
  const values = secrets.flatMap((value) => value.split(/\r?\n/)).filter((value) => value.length >= SHORTEST_SECRET);
  const longestFirst = [...new Set(values)].sort((a, b) => b.length - a.length);
  return (line) => longestFirst.reduce((text, value) => text.replaceAll(value, "[MASKED]"), line);
}
