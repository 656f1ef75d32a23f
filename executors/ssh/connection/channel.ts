import { Readable, Writable } from "node:stream";
import type { ClientChannel } from "ssh2";
import type { SystemFailure } from "../../../src/errors.ts";
import type { Exit } from "../../../src/executor/environment.ts";

/** One program on the far side. Its streams are Node's own: ssh2's forget callbacks once a channel is closed. */
export interface SshChannel {
  readonly stdin: Writable;
  /** Back-pressure reaches the program by SSH's window. Must be read or destroyed; destroyed, it closes the channel. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  /**
   * The status as the server told it, as soon as it told it: output may follow.
   * @throws {SystemFailure} the channel ended without one: whatever became of the program, it is no success
   */
  readonly status: Promise<Exit>;
  /** The server has closed the channel, or the connection is gone. Never rejects. Comes only once stdout is read or destroyed. */
  readonly closed: Promise<void>;
  close(): void;
}

/** Nobody tells the size of a person's window. */
export const PTY = { term: "xterm-256color", rows: 24, cols: 80, height: 0, width: 0 };

/** A program to start on the far side. */
export interface Wanted {
  readonly command: string;
  readonly pty: boolean;
}

/** Signals by number where exit statuses have to be made of names; others are told as 128. */
const SIGNALS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGABRT: 6,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
};

/**
 * @param lost fires when the connection is gone. ssh2 tells a channel of that only after its output was read.
 * @param ended why there was no status, asked when that is known to be so
 */
export function wrapChannel(channel: ClientChannel, lost: AbortSignal, ended: () => SystemFailure): SshChannel {
  channel.on("error", () => {});
  channel.stderr.on("error", () => {});

  let settled = false;
  const stdin = writeTo(channel);
  const status = new Promise<Exit>((resolve, reject) => {
    channel.once("exit", (code: number | null, signal?: string) => {
      settled = true;
      if (typeof code === "number") resolve({ code, signal: null });
      else resolve({ code: 128 + (SIGNALS[signal ?? ""] ?? 0), signal: signal ?? null });
    });
    const onEnd = (): void => {
      lost.removeEventListener("abort", onEnd);
      if (!settled) reject(ended());
      stdin.destroy(new Error("the far side is gone"));
    };
    channel.once("close", onEnd);
    if (lost.aborted) onEnd();
    else lost.addEventListener("abort", onEnd, { once: true });
  });
  status.catch(() => {});
  const closed = new Promise<void>((resolve) => channel.once("close", () => resolve()));

  return {
    stdin,
    stdout: readFrom(channel, () => channel.close()),
    stderr: readFrom(channel.stderr, () => {}),
    status,
    closed,
    close: () => channel.close(),
  };
}

function readFrom(source: Readable, onDestroy: () => void): Readable {
  let ended = false;
  const readable = new Readable({
    highWaterMark: 256 * 1024,
    read: () => void source.resume(),
    destroy: (error, done) => {
      if (!ended) {
        onDestroy();
        // What is still on its way would otherwise keep the channel from closing.
        source.removeAllListeners("data");
        source.resume();
      }
      done(error);
    },
  });
  readable.on("error", () => {});
  source.pause();
  source.on("data", (chunk: Buffer) => {
    if (!readable.push(chunk)) source.pause();
  });
  source.once("end", () => {
    ended = true;
    readable.push(null);
  });
  return readable;
}

function writeTo(channel: ClientChannel): Writable {
  let waiting: ((error?: Error | null) => void) | null = null;
  const settle = (error: Error | null): void => {
    const done = waiting;
    waiting = null;
    done?.(error);
  };
  const writable = new Writable({
    highWaterMark: 256 * 1024,
    write: (chunk: Buffer, _encoding, done) => {
      if (!channel.writable) return done(new Error("the far side has closed its input"));
      waiting = done;
      channel.write(chunk, () => settle(null));
    },
    final: (done) => {
      channel.end();
      done();
    },
    destroy: (error, done) => {
      if (channel.writable) channel.end();
      done(error);
      settle(error);
    },
  });
  writable.on("error", () => {});
  return writable;
}
