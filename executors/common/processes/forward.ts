import type { Readable, Writable } from "node:stream";
import { drop, handOn, tidyAfter } from "../../../src/files/tidy.ts";
import { unlessAborted } from "../../../src/time.ts";

/** Bytes of a script on their way to `output`. */
export interface Forwarding {
  /** Bytes read so far. */
  readonly bytes: number;
  /** `output` is full: the script is not quiet, its reader is slow. */
  readonly blocked: boolean;
  /** When the last bytes came or `output` became free again, on `performance.now()`'s clock. */
  readonly lastActivityMs: number;
  /** The last byte that went to `output` ended a line, or none went there yet. */
  readonly atLineStart: boolean;
  /** Resolves with true once every writer has closed the stream and all of it was written, with false after `waitMs`. */
  ended(waitMs: number): Promise<boolean>;
  /** Stop reading, at the end or before. */
  close(): void;
}

export interface ForwardOptions {
  /** Bytes before this one are not wanted. */
  readonly from?: number;
  /** What comes out of the stream is nobody else's: its memory is given back by the last one to have it. */
  readonly ownsChunks?: boolean;
}

/**
 * Write to `output` what comes out of `stream`, and stop reading while `output` is full, so that the script waits too.
 * Once `output` is broken, bytes are read and thrown away: a script must not hang on a reader that died.
 */
export function forward(
  stream: Readable,
  output: Writable,
  { from = 0, ownsChunks = false }: ForwardOptions = {},
): Forwarding {
  let bytes = 0;
  let blocked = false;
  let atLineStart = true;
  let lastActivityMs = performance.now();
  let over = false;
  const waiting = new Set<() => void>();

  const resume = (): void => {
    if (!blocked) return;
    blocked = false;
    lastActivityMs = performance.now();
    stream.resume();
  };
  const release = (): void => {
    output.off("drain", resume);
    output.off("close", resume);
    output.off("error", resume);
  };
  const finish = (): void => {
    if (over) return;
    over = true;
    release();
    for (const wake of waiting) wake();
    waiting.clear();
  };
  output.on("drain", resume);
  output.on("close", resume);
  output.on("error", resume);

  stream.on("data", (all: Uint8Array) => {
    const chunk = bytes < from ? all.subarray(from - bytes) : all;
    bytes += all.length;
    if (ownsChunks) handOn(all);
    tidyAfter(ownsChunks ? all.length / 4 : all.length);
    lastActivityMs = performance.now();
    if (chunk.length === 0) return;
    if (output.destroyed || output.writableEnded || output.errored) return drop(all);
    atLineStart = chunk[chunk.length - 1] === 0x0a;
    if (!output.write(chunk) && !output.destroyed) {
      blocked = true;
      stream.pause();
    }
  });
  stream.on("end", finish);
  stream.on("error", finish);
  stream.on("close", finish);

  return {
    get bytes() {
      return bytes;
    },
    get blocked() {
      return blocked;
    },
    get lastActivityMs() {
      return lastActivityMs;
    },
    get atLineStart() {
      return atLineStart;
    },
    ended: (waitMs) =>
      new Promise((resolve) => {
        if (over) {
          resolve(true);
          return;
        }
        const wake = (): void => {
          clearTimeout(timer);
          waiting.delete(wake);
          resolve(over);
        };
        const timer = setTimeout(wake, waitMs);
        waiting.add(wake);
      }),
    close: () => {
      stream.destroy();
      finish();
    },
  };
}

/** After the shell's end: this long for a first word of what holds the output, and at most this long for what is still writing. */
export const DRAIN_MS = 2000;
/** Silence that ends the reading after that. */
const QUIET_MS = 500;
/** A pipe never holds more than this, so once it was read, all that was in it is read. */
const PIPE_CAPACITY_BYTES = 1024 * 1024;

export interface DrainOptions {
  /** For a first word. Nothing more may come after it: whoever knows that nobody holds the output waits longer for its end. */
  readonly patienceMs?: number;
  /** What may be on its way at the shell's end. */
  readonly capacityBytes?: number;
  /** Nothing can come now, and the way is being mended: that time does not count. */
  readonly isAway?: () => boolean;
}

/**
 * Read on after the shell's end until the last writer is gone, all are silent, or the time is over. What was in the pipe
 * at the shell's end is read in any case; the time that `output` takes does not count, up to `limitMs` in all. Whether the first
 * bytes were in the pipe before or are a sign of life cannot be told, so silence counts once `patienceMs` is over.
 */
export async function drain(
  reader: Forwarding,
  limitMs: number,
  { patienceMs = DRAIN_MS, capacityBytes = PIPE_CAPACITY_BYTES, isAway = () => false }: DrainOptions = {},
): Promise<void> {
  const before = reader.bytes;
  const startMs = performance.now();
  let waitedMs = 0;
  let lookedMs = startMs;
  let silentSinceMs = startMs;
  for (;;) {
    if (await reader.ended(20)) return;
    const now = performance.now();
    const waits = reader.blocked || isAway();
    if (waits) {
      waitedMs += now - lookedMs;
      silentSinceMs = now;
    }
    lookedMs = now;
    if (now - startMs >= limitMs) return;
    if (waits) continue;
    const passedMs = now - startMs - waitedMs;
    if (passedMs >= patienceMs && now - Math.max(reader.lastActivityMs, silentSinceMs) >= QUIET_MS) return;
    if (passedMs >= Math.max(patienceMs, DRAIN_MS) && reader.bytes - before >= capacityBytes) return;
  }
}

/** Resolves with "aborted" when `signal` fires before `settled` does. */
export async function beforeAbort<T>(settled: Promise<T>, signal: AbortSignal): Promise<T | "aborted"> {
  try {
    return await unlessAborted(settled, signal);
  } catch (error) {
    if (signal.aborted) return "aborted";
    throw error;
  }
}
