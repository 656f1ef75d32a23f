import type { Writable } from "node:stream";
import type { Tone } from "../shell.ts";

/** Fold markers that are there: the first one, with its heading where it has one or without, or both. */
export type SectionMarks = "begun" | "open" | "closed";

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
  /** The same where the line that is being written has ended: it tells nothing of what is printed meanwhile. */
  aside(text: string, tone?: Tone): void;
  /** Fold markers around `body`, if the coordinator knows them. `left`: those that an earlier process has put there. */
  section<T>(name: string, body: () => Promise<T>, left?: SectionMarks): Promise<T>;
  /** Everything written so far is spooled, also what the mask held back. Called where a stage ends. */
  flush(): Promise<void>;
  /** Bytes `[from, from + maxBytes)`, fewer at the end; in `into`, where it is given and large enough. */
  read(from: number, maxBytes: number, into?: Buffer): Promise<Buffer>;
  /** Told after each growth of `size` and once after `end`; returns how to stop listening. */
  watch(listener: () => void): () => void;
  /** CRC-32 (IEEE) over the bytes spooled so far. */
  readonly crc32: number;
  /** Where it is now: what waits to become a line becomes one. The spool's part of it may not be on disk yet. */
  locate(): TracePosition;
  end(): Promise<void>;
  /**
   * Leaves it as it is to another process: nothing that comes from now on is taken, what was held back is not given out. Where it
   * is has been told its keeper when this resolves. More than once is once.
   */
  letGo(): Promise<void>;
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
  /** Each line gets its time, as GitLab reads it. */
  readonly stamps?: true;
  /** Keeps what another process would need to go on with this trace. */
  readonly keeper?: TraceKeeper;
  /** Where an earlier process was: what comes is what came after it then, beginning with `chain.behind` bytes from before. */
  readonly resume?: TraceResume;
}

/** Where a trace is: with the bytes that come from here on it gives what it would have given. Holds no output. */
export interface TracePosition {
  /** What is decided of the output that came is the first so many bytes of the spool, with the runner's own lines. */
  readonly spool: number;
  /** The spool ends a line there. */
  readonly lineStart: boolean;
  readonly limit: LimitState;
  readonly chain: ChainState;
  /** Where lines have times. */
  readonly stamps: StampState | null;
}

/** What of a trace's limit does not follow from its size. */
export interface LimitState {
  /** Bytes of the runner's own lines that were kept from its allowance. */
  readonly beyond: number;
  readonly reached: boolean;
}

/** Where the filters are, from the output as it comes to what is kept. */
export interface ChainState {
  /** Bytes of output that are decided. */
  readonly at: number;
  /** So many before these must be seen again: for keys that began there, and a character that is not complete. */
  readonly behind: number;
  /** Of these the last ones, which are the beginning of a character. */
  readonly character: number;
  readonly mask: MaskState;
}

/** `armed`: the key is complete and no byte of the value was seen; `open`: its `[MASKED]` is written. */
export type RunState = "none" | "armed" | "open";

export interface MaskState {
  /** Bytes before it that a key may have begun in. */
  readonly behind: number;
  /** Bytes from here on whose `[MASKED]` is written. */
  readonly covered: number;
  /** Of a word after a token's prefix, and of a value in a URL. */
  readonly word: RunState;
  readonly url: RunState;
}

export interface TraceKeeper {
  /** These bytes of the runner's own are put at `at` of the spool next, without times: kept when it returns. Never throws. */
  line(at: number, bytes: Buffer): void;
  /** All that is before this position is on disk. Never throws. */
  reached(position: TracePosition): void;
}

export interface TraceResume {
  readonly position: TracePosition;
  /** What `TraceKeeper.line` was given, in order. */
  readonly lines: readonly OwnLine[];
}

export interface OwnLine {
  readonly at: number;
  readonly bytes: Buffer;
}
