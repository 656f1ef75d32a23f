import type { Duplex, Writable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";

const HEADER_BYTES = 8;

export type Channel = "stdout" | "stderr";

/** Takes the daemon's frames apart, however they are cut. */
interface Demultiplexer {
  /** @throws {SystemFailure} this is no stream of frames */
  write(chunk: Buffer): void;
  /** Whether the frames ended where one ends: nothing of the last one is missing. */
  readonly complete: boolean;
}

/**
 * Frames of attach and exec: channel (0 or 1 stdout, 2 stderr), three zeros, length as 32 bits, then the payload. Payloads are
 * handed on as views of what came, never gathered.
 */
export function createDemultiplexer(onPayload: (channel: Channel, payload: Buffer) => void): Demultiplexer {
  const header = Buffer.alloc(HEADER_BYTES);
  let headerBytes = 0;
  let left = 0;
  let channel: Channel = "stdout";
  return {
    write: (chunk) => {
      let at = 0;
      while (at < chunk.length) {
        if (left === 0) {
          const taken = Math.min(HEADER_BYTES - headerBytes, chunk.length - at);
          chunk.copy(header, headerBytes, at, at + taken);
          headerBytes += taken;
          at += taken;
          if (headerBytes < HEADER_BYTES) return;
          headerBytes = 0;
          const kind = header.readUInt8(0);
          if (kind > 3 || header.readUIntBE(1, 3) !== 0) {
            throw new SystemFailure("The container engine sent output that is not framed as its API says");
          }
          channel = kind >= 2 ? "stderr" : "stdout";
          left = header.readUInt32BE(4);
          continue;
        }
        const taken = Math.min(left, chunk.length - at);
        onPayload(channel, chunk.subarray(at, at + taken));
        left -= taken;
        at += taken;
      }
    },
    get complete() {
      return left === 0 && headerBytes === 0;
    },
  };
}

/** A connection whose frames are read into streams. */
export interface FrameReader {
  /**
   * Settles when the far side has closed the connection: `null`, or why that was no proper end. Never rejects.
   */
  readonly ended: Promise<Error | null>;
  /**
   * From now on read at the daemon's pace; what a slow output cannot take, beyond some megabytes, is dropped. For a program that
   * is being ended: the daemon reports the end of nothing in a container while it has output of a dead process to hand over.
   */
  hurry(): void;
  /** Stop reading and close the connection. */
  close(): void;
}

/** What may wait for a slow output after `hurry`. */
const MOST_PENDING_BYTES = 2 * 1024 * 1024;

/** Read `connection` to its end, at the pace of the outputs. One that is broken or over is read for, and not written to. */
export function readFrames(
  connection: Duplex,
  { stdout, stderr }: { stdout: Writable; stderr: Writable },
): FrameReader {
  let waiting = 0;
  let hurried = false;
  let closed = false;
  const { promise: ended, resolve } = Promise.withResolvers<Error | null>();
  const outputs = [stdout, stderr];

  const usable = (output: Writable): boolean => !output.destroyed && !output.writableEnded;
  const release = (): void => {
    if (waiting > 0 && --waiting === 0 && !closed) connection.resume();
  };
  const waitFor = (output: Writable): void => {
    waiting++;
    connection.pause();
    const done = (): void => {
      output.off("drain", done).off("close", done).off("error", done);
      release();
    };
    output.on("drain", done).on("close", done).on("error", done);
  };
  const frames = createDemultiplexer((channel, payload) => {
    const output = channel === "stdout" ? stdout : stderr;
    if (!usable(output) || (hurried && output.writableLength > MOST_PENDING_BYTES)) return;
    if (!output.write(payload) && waiting === 0 && !hurried) waitFor(output);
  });

  const settle = (error: Error | null): void => {
    if (closed) return;
    closed = true;
    connection.off("data", onData).off("end", onEnd).off("close", onClose);
    connection.destroy();
    resolve(error);
  };
  const onData = (chunk: Buffer): void => {
    try {
      frames.write(chunk);
    } catch (error) {
      settle(error instanceof Error ? error : new Error(String(error)));
    }
  };
  const onEnd = (): void => settle(frames.complete ? null : new Error("the connection ended in the middle of a frame"));
  const onClose = (): void => settle(new Error("the connection was closed"));
  // This listener stays: an error after the end would be thrown if nobody listened.
  connection.on("error", settle);
  for (const output of outputs) output.on("error", ignore);
  connection.on("data", onData).on("end", onEnd).on("close", onClose);
  void ended.then(() => {
    for (const output of outputs) output.off("error", ignore);
  });

  return {
    ended,
    hurry: () => {
      hurried = true;
      if (!closed) connection.resume();
    },
    close: () => settle(null),
  };
}

function ignore(): void {}
