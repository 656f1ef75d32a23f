import type { Readable } from "node:stream";

/** A small program in POSIX sh, as an executor runs it where a job's files are. */
export interface RemoteCommand {
  /** Text of the program: POSIX sh, run as `sh -c TEXT alloy-runner ARGS…`. It holds no secrets and nothing that a job chose. */
  readonly script: string;
  /** `$1`, `$2`, …: literal, one character (0–255) per byte, so that names that are no UTF-8 survive. No secrets. */
  readonly args: readonly string[];
  /** Bytes for its standard input; without it, stdin is empty. */
  readonly stdin?: Readable | Uint8Array;
}

export interface RemoteExit {
  /** 128 + N where signal N ended it. */
  readonly code: number;
  /** The end of what it wrote to stderr: at most 16 KiB, UTF-8 with replacement characters. */
  readonly stderr: string;
}

export interface RemoteProcess {
  /** Raw bytes with back-pressure; ends when the program has closed its output. Must be read or destroyed. */
  readonly stdout: Readable;
  /**
   * @throws {SystemFailure} the connection or the container went away before the end was known
   * @throws the signal's reason, once it has fired
   */
  readonly exit: Promise<RemoteExit>;
  /** The connection is broken and is made anew: silence means nothing. */
  readonly isAway?: () => boolean;
}

/**
 * Runs programs in the place that holds a job's files: a container by exec, a host over SSH. Used by the workspace and for
 * ending processes; a job's own scripts go through `Environment.run`.
 */
export interface RemoteCommands {
  /** @throws {SystemFailure} it could not be started */
  start(command: RemoteCommand, signal: AbortSignal): Promise<RemoteProcess>;
}

/** A program that may outlive whoever starts it, where what starts it can do so. */
export interface LastingCommand extends RemoteCommand {
  readonly lasting?: Lasting;
}

/** What is written down of a program, so that another process finds it again. */
export interface Lasting {
  /** Where its files are going to be; kept before anything is there. */
  begins(directory: string): void;
  /** It runs: from now on it is never started again. */
  started(): void;
  /** Bytes of its output that nobody will ask for again. */
  settled(): number;
  /** Another process has begun it: what runs is gone on with from this byte of its output, what does not is started. */
  readonly resume?: { readonly directory: string; readonly started: boolean; readonly from: number };
}

/** As `RemoteCommands`, for scripts: `lasting` means nothing to those whose programs end with their connection. */
export interface ScriptCommands {
  start(command: LastingCommand, signal: AbortSignal): Promise<RemoteProcess>;
}
