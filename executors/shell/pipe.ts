import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { Readable, type Writable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import { type Forwarding, forward } from "../common/forward.ts";

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

/**
 * `forward` for the pipe `fd`, which is closed with it.
 */
export function readPipe(fd: number, output: Writable): Forwarding {
  const { stream, closesFd, tidy } = openReader(fd);
  let untidyBytes = 0;
  const forwarding = forward(stream, output, (bytes) => {
    untidyBytes += bytes;
    if (untidyBytes < TIDY_BYTES) return;
    untidyBytes = 0;
    tidy();
  });
  stream.on("close", () => {
    if (!closesFd) closeSync(fd);
  });
  return forwarding;
}
