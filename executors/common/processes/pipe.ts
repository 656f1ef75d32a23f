import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { Readable, type Writable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import { type Forwarding, forward } from "./forward.ts";

interface BunFiles {
  file(fd: number): { stream(): ReadableStream<Uint8Array> };
}

function hasBunFiles(host: unknown): host is BunFiles {
  return typeof host === "object" && host !== null && "file" in host && typeof host.file === "function";
}

/** A readable over the non-blocking read end of a pipe, woken by the event loop: no thread waits for a quiet job. */
export function openReader(fd: number): { stream: Readable; closesFd: boolean } {
  // Under Bun a Socket over a descriptor never yields a byte; what is used instead leaves the descriptor open.
  const bun: unknown = Reflect.get(globalThis, "Bun");
  return hasBunFiles(bun)
    ? { stream: Readable.fromWeb(bun.file(fd).stream()), closesFd: false }
    : { stream: new Socket({ fd, readable: true, writable: false }), closesFd: true };
}

/**
 * `forward` for the pipe `fd`, which is closed with it.
 * @param from bytes before this one are not wanted
 */
export function readPipe(fd: number, output: Writable, from = 0): Forwarding {
  const { stream, closesFd } = openReader(fd);
  const forwarding = forward(stream, output, { from, ownsChunks: true });
  stream.on("close", () => {
    if (!closesFd) closeSync(fd);
  });
  return forwarding;
}
