import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { deadline, pause, unlessAborted } from "../../../src/time.ts";
import type { RemoteCommand, RemoteCommands, RemoteExit, RemoteProcess } from "../commands.ts";
import { lastLine, runToEnd } from "../run-to-end.ts";
import { ALIVE, attendant, FOLLOW, START } from "./programs.ts";

export interface DurableOptions {
  /** Where programs run. Its connections may break at any moment. */
  readonly commands: RemoteCommands;
  /** Where the files are read: another container that has the directory, or the same place. */
  readonly reading: RemoteCommands;
  /** For files of this job's scripts, and nobody else's. */
  readonly directory: string;
  /** Told once when the connection has been away for a while, and once when it is back. */
  onWeather(news: "lost" | "back"): void;
  /** Why nothing will ever come any more, or `null`: asked where a connection broke. */
  lost(signal: AbortSignal): Promise<Error | null>;
  /** After so much silence it is looked whether what runs the script still lives. */
  readonly patienceS?: number;
}

/** A follower ends after so much, and the next one says with its offset what has arrived. */
const FOLLOWED_BYTES = 32 * 1024 * 1024;
const PATIENCE_S = 60;
/** How long nothing may be heard of a place whose script runs. */
const AWAY_MS = 300_000;
/** Shorter breaks are not mentioned in the trace. */
const WEATHER_MS = 10_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;
const START_MS = 30_000;

const LAST_WORDS_MS = 10_000;

const STATUS_NO_FILES = 95;

/** The place says that the program does not run. */
class NotStarted extends SystemFailure {}

/**
 * Programs that go on where the connection breaks: their output lies in files and is followed from where it was, and their status
 * is in a file that is written when they end. Each program gets all of its stdin, or is not started.
 */
export function durableCommands(options: DurableOptions): RemoteCommands {
  const done: string[] = [];
  return {
    start: async (command, signal) => {
      const directory = `${options.directory}/${randomBytes(8).toString("hex")}`;
      try {
        await begin(options, directory, command, done.splice(0), signal);
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof NotStarted) throw error;
        return lastWords(options, directory, error, signal);
      }
      return follow(options, directory, () => done.push(directory), signal);
    },
  };
}

interface Patience {
  /** Something has come: the time begins anew. */
  heard(): void;
  /** Waits until it may be tried again. @throws the error, or why there is no hope */
  failed(error: unknown): Promise<void>;
}

/** For what may fail for a while, and for at most `limitMs` in which nothing is heard: the place is asked whether there is hope. */
function patience(options: DurableOptions, limitMs: number, signal: AbortSignal): Patience {
  let since = performance.now();
  let told = false;
  let waitMs = FIRST_PAUSE_MS;
  return {
    heard() {
      if (told) options.onWeather("back");
      told = false;
      since = performance.now();
      waitMs = FIRST_PAUSE_MS;
    },
    async failed(error) {
      signal.throwIfAborted();
      if (!(error instanceof SystemFailure) || !error.retry) throw error;
      const gone = await options.lost(signal);
      if (gone !== null) throw gone;
      const awayMs = performance.now() - since;
      if (awayMs > limitMs) {
        throw new SystemFailure(
          `Nothing was heard of the place where the script runs for ${Math.round(awayMs / 1000)} s: ${error.message}`,
          { cause: error },
        );
      }
      if (awayMs > WEATHER_MS && !told) {
        told = true;
        options.onWeather("lost");
      }
      await pause(waitMs, signal);
      waitMs = Math.min(waitMs * 2, LONGEST_PAUSE_MS);
    },
  };
}

/** As long as `body` fails in a way that may pass, it is done again. */
async function persistently<T>(
  options: DurableOptions,
  limitMs: number,
  body: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const { heard, failed } = patience(options, limitMs, signal);
  for (;;) {
    try {
      const result = await body();
      heard();
      return result;
    } catch (error) {
      await failed(error);
    }
  }
}

async function begin(
  options: DurableOptions,
  directory: string,
  { script, args, stdin }: RemoteCommand,
  done: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  if (stdin instanceof Readable) throw new TypeError("a durable program gets its stdin as bytes");
  const bytes = stdin ?? Buffer.alloc(0);
  const command: RemoteCommand = {
    script: START,
    args: [directory, String(bytes.length), done.join("\n"), attendant, "sh", "-c", script, "alloy-runner", ...args],
    stdin: bytes,
  };
  const { code, stderr } = await persistently(
    options,
    START_MS,
    () => runToEnd(options.commands, command, 64 * 1024, signal),
    signal,
  );
  if (code === 0) return;
  const why = lastLine(stderr) || `status ${code}`;
  throw new NotStarted(
    code === STATUS_NO_FILES
      ? `Cannot save a script in ${options.directory}: ${why}`
      : `A script could not be started: ${why}`,
    { retry: code !== STATUS_NO_FILES },
  );
}

interface Followed {
  readonly code: number | null;
  readonly total: number | null;
  readonly gone: boolean;
  /** What was printed beyond `total` could not be saved. */
  readonly full: boolean;
  readonly stderr: string;
}

function parseFollowed({ stderr }: RemoteExit): Followed | null {
  const pattern = /\nfollowed (\d{1,3}|-|gone) (\d{1,15}|-|gone) (full)?\n*$/;
  const [line, code = "", end = "", trouble = ""] = pattern.exec(stderr) ?? [];
  if (line === undefined) return null;
  return {
    code: /^\d+$/.test(code) ? Number(code) : null,
    total: /^\d+$/.test(end) ? Number(end) : null,
    gone: code === "gone",
    full: trouble === "full",
    stderr: stderr.slice(0, -line.length),
  };
}

interface From {
  readonly directory: string;
  /** Bytes that have arrived. */
  readonly at: number;
  /** The status has arrived. */
  readonly known: boolean;
  readonly patienceS: number;
}

/** What one follower hands on, and how things stand when it ends. */
async function* followOnce(
  reading: RemoteCommands,
  { directory, at, known, patienceS }: From,
  signal: AbortSignal,
): AsyncGenerator<Buffer, Followed> {
  const args = [directory, String(at), String(FOLLOWED_BYTES), known ? "yes" : "no", String(patienceS)];
  const process = await reading.start({ script: FOLLOW, args }, signal);
  process.exit.catch(() => {});
  try {
    for await (const chunk of process.stdout) yield chunk;
  } finally {
    process.stdout.destroy();
  }
  const followed = parseFollowed(await process.exit);
  if (followed === null)
    throw new SystemFailure("What follows a script's output ended without a word", { retry: true });
  return followed;
}

/** Of a program that may have run, but nobody has said so before its place was lost: what it printed, and then the loss. */
function lastWords(options: DurableOptions, directory: string, loss: unknown, signal: AbortSignal): RemoteProcess {
  async function* words(): AsyncGenerator<Buffer> {
    using limit = deadline(signal, LAST_WORDS_MS, new SystemFailure("its output does not come"));
    try {
      yield* followOnce(options.reading, { directory, at: 0, known: false, patienceS: 0 }, limit.signal);
    } catch {
      signal.throwIfAborted();
    }
    throw loss;
  }
  const { promise: exit, reject } = Promise.withResolvers<RemoteExit>();
  exit.catch(() => {});
  const stdout = Readable.from(words(), { objectMode: false });
  stdout.on("error", reject);
  stdout.on("close", () => reject(loss));
  return { stdout, exit: unlessAborted(exit, signal) };
}

function follow(options: DurableOptions, directory: string, onDone: () => void, signal: AbortSignal): RemoteProcess {
  const { promise: exit, resolve, reject } = Promise.withResolvers<RemoteExit>();
  exit.catch(() => {});
  let received = 0;
  let known = false;

  async function* one(): AsyncGenerator<Buffer, Followed> {
    const from = { directory, at: received, known, patienceS: options.patienceS ?? PATIENCE_S };
    const pieces = followOnce(options.reading, from, signal);
    for (;;) {
      const { done, value } = await pieces.next();
      if (done === true) return value;
      received += value.length;
      yield value;
    }
  }

  async function* all(): AsyncGenerator<Buffer> {
    for (;;) {
      const before = received;
      const followed = yield* persistent(options, one, () => received, signal);
      if (followed.gone)
        throw new SystemFailure("The job removed the runner's own files: how its script ended is not known");
      if (followed.full) {
        if (followed.total === null || followed.total > received) continue;
        throw new SystemFailure(
          `What the script prints cannot be saved any more: the disk that has ${options.directory} is full`,
        );
      }
      if (followed.code !== null) {
        known = true;
        resolve({ code: followed.code, stderr: followed.stderr });
      }
      if (followed.code !== null && followed.total !== null && followed.total <= received) break;
      if (followed.code === null && received === before) await assertAlive(options, directory, signal);
    }
    onDone();
  }

  const stdout = Readable.from(all(), { objectMode: false, highWaterMark: 256 * 1024 });
  stdout.on("error", reject);
  const onAbort = (): void => {
    reject(signal.reason);
    stdout.destroy();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  stdout.on("close", () => {
    signal.removeEventListener("abort", onAbort);
    reject(new SystemFailure("Nobody follows the script any more"));
  });
  return { stdout, exit: unlessAborted(exit, signal) };
}

/** As `persistently`, for what hands on bytes as it goes: a try that has brought some begins the time anew. */
async function* persistent(
  options: DurableOptions,
  body: () => AsyncGenerator<Buffer, Followed>,
  progress: () => number,
  signal: AbortSignal,
): AsyncGenerator<Buffer, Followed> {
  const { heard, failed } = patience(options, AWAY_MS, signal);
  for (;;) {
    const before = progress();
    try {
      const followed = yield* body();
      heard();
      return followed;
    } catch (error) {
      if (progress() > before) heard();
      await failed(error);
    }
  }
}

async function assertAlive(options: DurableOptions, directory: string, signal: AbortSignal): Promise<void> {
  const ask = () => runToEnd(options.commands, { script: ALIVE, args: [directory] }, 1024, signal);
  const { code } = await persistently(options, AWAY_MS, ask, signal);
  if (code !== 0) throw new SystemFailure("What ran the script was ended by it, or with it: how it ended is not known");
}
