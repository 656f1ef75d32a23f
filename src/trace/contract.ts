import type { Writable } from "node:stream";
import type { Tone } from "../shell.ts";

/** A job's output on its way out. Secrets are gone and the limit is kept before a byte reaches the spool. */
export interface Trace {
  /** Script output. Back-pressure comes from the spool, never from the network. Never ended by its writers. */
  readonly output: Writable;
  /** Lines that services print, whole and at most a few at a time: masked each by itself, within the limit, never mixed with others. */
  readonly services: Writable;
  /** Bytes spooled so far: all of them valid UTF-8, no NUL, no byte of a character still to come. */
  readonly size: number;
  /** No byte will follow; what the mask held back is spooled. */
  readonly ended: boolean;
  /** With times: its last line goes on, although a line break stands behind it. */
  readonly lineOpen: boolean;
  /** Fires with a SystemFailure when the spool cannot be written any more: the job must end. */
  readonly broken: AbortSignal;
  /** From now on these must not show either: what is found out while a job is prepared, such as the login of a registry. */
  hide(secrets: readonly string[]): void;
  /** `text` as it would show: for the runner's log. */
  mask(text: string): string;
  /** A line of the runner's own, in order with `output`, on a line of its own, masked, kept also beyond the limit. */
  print(text: string, tone?: Tone): void;
  /** Fold markers around `body`, if the coordinator knows them. */
  section<T>(name: string, body: () => Promise<T>): Promise<T>;
  /** Everything written so far is spooled, also what the mask held back. Called where a stage ends. */
  flush(): Promise<void>;
  /** Bytes `[from, from + maxBytes)`, fewer at the end; in `into`, where it is given and large enough. */
  read(from: number, maxBytes: number, into?: Buffer): Promise<Buffer>;
  /** Told after each growth of `size` and once after `end`; returns how to stop listening. */
  watch(listener: () => void): () => void;
  /** CRC-32 (IEEE) over the bytes spooled so far. */
  readonly crc32: number;
  end(): Promise<void>;
  /** Lets go of the file. */
  close(): Promise<void>;
}

/** All that is to be known of the times in a trace to go on behind its last line. */
export interface StampState {
  /** Whose line it is, where it goes on: the line break behind it was added. */
  readonly open: "runner" | "script" | "service" | null;
  /** The last time that was written, in microseconds since 1970. */
  readonly lastMicros: number;
}

export interface TraceOptions {
  /** Spool file; created 0600, or continued where it ends. */
  readonly path: string;
  /** Values that must not show, as they are; their disguises are the trace's business. */
  readonly secrets: readonly string[];
  /** Token prefixes (`glpat-`): a word that begins with one is masked. */
  readonly secretPrefixes: readonly string[];
  readonly limitBytes: number;
  readonly sections: boolean;
  /** Each line gets its time, as GitLab reads it; `resume`: where an earlier writer of this file was. */
  readonly stamps?: { readonly resume?: StampState };
}
