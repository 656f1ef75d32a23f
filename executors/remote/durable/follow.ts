import { Readable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { deadline, unlessAborted } from "../../../src/time.ts";
import type { RemoteCommands, RemoteExit, RemoteProcess } from "../commands.ts";
import { runToEnd } from "../run-to-end.ts";
import type { DurableOptions } from "./options.ts";
import { AWAY_MS, patience, persistently } from "./patience.ts";
import { ALIVE, FOLLOW } from "./programs.ts";

/** A follower ends after so much, and the next one says with its offset what has arrived. */
const FOLLOWED_BYTES = 32 * 1024 * 1024;
const PATIENCE_S = 60;
const LAST_WORDS_MS = 10_000;

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
  /** Bytes that nobody asks for again: the files that hold them may go. */
  readonly settled: number;
  /** The status has arrived. */
  readonly known: boolean;
  readonly patienceS: number;
  onConnected?(): void;
}

/** What one follower hands on, and how things stand when it ends. */
async function* followOnce(
  reading: RemoteCommands,
  { directory, at, settled, known, patienceS, onConnected }: From,
  signal: AbortSignal,
): AsyncGenerator<Buffer, Followed> {
  const numbers = [FOLLOWED_BYTES, known ? "yes" : "no", patienceS, Math.min(at, settled)];
  const args = [directory, String(at), ...numbers.map(String)];
  const process = await reading.start({ script: FOLLOW, args }, signal);
  onConnected?.();
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
export function lastWords(
  options: DurableOptions,
  directory: string,
  loss: unknown,
  signal: AbortSignal,
): RemoteProcess {
  async function* words(): AsyncGenerator<Buffer> {
    using limit = deadline(signal, LAST_WORDS_MS, new SystemFailure("its output does not come"));
    try {
      yield* followOnce(options.reading, { directory, at: 0, settled: 0, known: false, patienceS: 0 }, limit.signal);
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

/** A program whose output is followed. */
export interface FollowedProgram {
  readonly directory: string;
  /** Byte of its output that is wanted first. */
  readonly from: number;
  /** Bytes that nobody asks for again; by default all that has arrived. */
  settled?(): number;
  /** All of it has arrived. */
  onDone(): void;
}

export function follow(
  options: DurableOptions,
  { directory, from: start, settled, onDone }: FollowedProgram,
  signal: AbortSignal,
): RemoteProcess {
  const { promise: exit, resolve, reject } = Promise.withResolvers<RemoteExit>();
  exit.catch(() => {});
  let received = start;
  let known = false;
  let isAway = true;

  async function* one(): AsyncGenerator<Buffer, Followed> {
    const from: From = {
      directory,
      at: received,
      settled: settled?.() ?? received,
      known,
      patienceS: options.patienceS ?? PATIENCE_S,
      onConnected: () => {
        isAway = false;
      },
    };
    const pieces = followOnce(options.reading, from, signal);
    try {
      for (;;) {
        const { done, value } = await pieces.next();
        if (done === true) return value;
        received += value.length;
        yield value;
      }
    } finally {
      isAway = true;
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
  return { stdout, exit: unlessAborted(exit, signal), isAway: () => isAway };
}

async function assertAlive(options: DurableOptions, directory: string, signal: AbortSignal): Promise<void> {
  const ask = () => runToEnd(options.commands, { script: ALIVE, args: [directory] }, 1024, signal);
  const { code } = await persistently(options, options.awayMs ?? AWAY_MS, ask, signal);
  if (code !== 0) throw new SystemFailure("What ran the script was ended by it, or with it: how it ended is not known");
}

/** As `persistently`, for what hands on bytes as it goes: a try that has brought some begins the time anew. */
async function* persistent(
  options: DurableOptions,
  body: () => AsyncGenerator<Buffer, Followed>,
  progress: () => number,
  signal: AbortSignal,
): AsyncGenerator<Buffer, Followed> {
  const { heard, failed } = patience(options, options.awayMs ?? AWAY_MS, signal);
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
