import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { Readable, type Writable } from "node:stream";
import type { ReadableStream } from "node:stream/web";

interface BunFiles {
  file(fd: number): { stream(): ReadableStream<Uint8Array> };
  gc?(now: boolean): unknown;
}

function hasBunFiles(host: unknown): host is BunFiles {
  return typeof host === "object" && host !== null && "file" in host && typeof host.file === "function";
}

/** A readable over the non-blocking read end of a pipe, woken by the event loop: no thread waits for a quiet job. */
function openReader(fd: number): { stream: Readable; closesFd: boolean; tidy(): void } {
  // Under Bun a Socket over a descriptor never yields a byte; what is used instead leaves the descriptor open.
  const bun: unknown = Reflect.get(globalThis, "Bun");
  return hasBunFiles(bun)
    ? { stream: Readable.fromWeb(bun.file(fd).stream()), closesFd: false, tidy: () => void bun.gc?.(false) }
    : { stream: new Socket({ fd, readable: true, writable: false }), closesFd: true, tidy: () => {} };
}

/** Each chunk of a flood is new memory under Bun, and its collector, left alone, lets much of it gather. */
const TIDY_BYTES = 32 * 1024 * 1024;

/** Bytes on their way from a pipe to `output`. */
export interface PipeReader {
  /** Bytes read so far. */
  readonly bytes: number;
  /** `output` is full: not the script is quiet, but its reader is slow. */
  readonly blocked: boolean;
  /** When the last bytes came or `output` became free again, on `performance.now()`'s clock. */
  readonly lastActivityMs: number;
  /** The last byte that went to `output` ended a line, or none went there yet. */
  readonly atLineStart: boolean;
  /** Resolves when the last writer has closed the pipe and all of it was written, or after `waitMs`: was it the end? */
  ended(waitMs: number): Promise<boolean>;
  /** Stop reading and close the descriptor, at the end or before. */
  close(): void;
}

/**
 * Write to `output` what comes out of the pipe `fd`, and stop reading while `output` is full, so that the script waits too.
 * Once `output` is broken, bytes are read and thrown away: a script must not hang on a reader that died.
 */
export function readPipe(fd: number, output: Writable): PipeReader {
  const { stream, closesFd, tidy } = openReader(fd);
  return follow(stream, output, { tidy, closed: () => void (closesFd || closeSync(fd)) });
}

/** The same for a stream that owns its end of the pipe: a child's stdout on Windows. */
export function readStream(stream: Readable, output: Writable): PipeReader {
  return follow(stream, output, { tidy: () => {}, closed: () => {} });
}

function follow(
  stream: Readable,
  output: Writable,
  { tidy, closed }: { readonly tidy: () => void; readonly closed: () => void },
): PipeReader {
  let bytes = 0;
  let untidyBytes = 0;
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

  stream.on("data", (chunk: Uint8Array) => {
    bytes += chunk.length;
    untidyBytes += chunk.length;
    if (untidyBytes >= TIDY_BYTES) {
      untidyBytes = 0;
      tidy();
    }
    lastActivityMs = performance.now();
    if (output.destroyed || output.writableEnded || output.errored) return;
    atLineStart = chunk[chunk.length - 1] === 0x0a;
    if (!output.write(chunk) && !output.destroyed) {
      blocked = true;
      stream.pause();
    }
  });
  stream.on("end", finish);
  stream.on("error", finish);
  stream.on("close", () => {
    finish();
    closed();
  });

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
