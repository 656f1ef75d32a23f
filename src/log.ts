import { fstatSync } from "node:fs";
import type { Writable } from "node:stream";
import { pino } from "pino";
import { describeError } from "./errors.ts";

/** The runner's own log. The implementation is `createLog` below; everybody else is handed a `Log`. */

export type LogLevel = "debug" | "info" | "warn" | "error" | "fatal";
export type LogFormat = "text" | "json";

/** Never hand it a token, a password, or a URL with user info: `fields` are printed as they are. */
export interface Log {
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** A log that adds `fields` to every line. */
  child(fields: Readonly<Record<string, unknown>>): Log;
}

/** The log at its root: what a reload may change holds for every child at once. */
export interface RunnerLog extends Log {
  setLevel(level: LogLevel): void;
  setFormat(format: LogFormat): void;
  /** Resolves once all lines have left, or after `limitMs`. */
  flush(limitMs: number): Promise<void>;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  readonly output: LogOutput;
  /** ANSI colours in text lines: only for a terminal, and not where `NO_COLOR` is set. */
  readonly colors?: boolean;
  /** The output is systemd's journal: no time in text lines, a syslog level in front. */
  readonly journal?: boolean;
  /** Told of each line that is written, and of what the level holds back from `warn` on: for metrics. */
  readonly onEntry?: (level: LogLevel) => void;
}

type Fields = Readonly<Record<string, unknown>>;

const SEVERITIES: Record<LogLevel, number> = { debug: 20, info: 30, warn: 40, error: 50, fatal: 60 };
/** Keys of pino's own; a field of that name gets an underscore, or the line would have the key twice. */
const TAKEN = new Set(["level", "time", "msg"]);

/**
 * The log of the whole process, for people (`text`) or programs (`json`, one object per line: level, time, msg, fields).
 * No call throws or waits, whatever the fields hold and whatever became of the output.
 */
export function createLog(options: LogOptions): RunnerLog {
  const { output, colors = false, journal = false, onEntry } = options;
  let threshold = SEVERITIES[options.level];
  let format = options.format;
  const style = { colors, prefix: journal ? "journal" : "stamped" } as const;
  const json = pino(
    {
      level: "debug",
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      depthLimit: 4,
      edgeLimit: 50,
    },
    { write: (line: string) => output.write(line) },
  );

  const write = (
    level: Exclude<LogLevel, "fatal">,
    message: string,
    bound: Fields,
    fields: Fields | undefined,
  ): void => {
    const severity = SEVERITIES[level];
    if (severity >= threshold || severity >= SEVERITIES.warn) onEntry?.(level);
    if (severity < threshold) return;
    try {
      const entries = Object.entries({ ...bound, ...fields }).map(([key, value]) => [key, plain(value)] as const);
      if (format === "text") output.write(textLine(level, new Date(), message, entries, style));
      else
        json[level](
          Object.fromEntries(entries.map(([key, value]) => [TAKEN.has(key) ? `${key}_` : key, value])),
          message,
        );
    } catch (error) {
      // A getter or toJSON of some field threw: the message itself still counts.
      output.write(textLine(level, new Date(), message, [["log_problem", describeError(error)]], style));
    }
  };

  const over = (bound: Fields): Log => ({
    debug: (message, fields) => write("debug", message, bound, fields),
    info: (message, fields) => write("info", message, bound, fields),
    warn: (message, fields) => write("warn", message, bound, fields),
    error: (message, fields) => write("error", message, bound, fields),
    child: (fields) => over({ ...bound, ...fields }),
  });

  return {
    ...over({}),
    setLevel: (level) => {
      threshold = SEVERITIES[level];
    },
    setFormat: (next) => {
      format = next;
    },
    flush: (limitMs) => output.flush(limitMs),
  };
}

/** Errors have no enumerable fields: without this they would be `{}`. */
function plain(value: unknown): unknown {
  if (value instanceof Error) return describeError(value);
  if (value instanceof URL) return `${value.protocol}//${value.host}${value.pathname}`;
  return typeof value === "bigint" ? String(value) : value;
}

interface TextStyle {
  /** ANSI colours for the level. */
  readonly colors: boolean;
  /** `stamped`: local time first. `journal`: no time, a syslog level such as `<4>` that journald takes off again. */
  readonly prefix: "stamped" | "journal";
}

const WORDS: Record<LogLevel, string> = {
  debug: "DEBUG",
  info: "INFO ",
  warn: "WARN ",
  error: "ERROR",
  fatal: "FATAL",
};
const COLORS: Record<LogLevel, string> = {
  debug: "\x1b[2m",
  info: "\x1b[36m",
  warn: "\x1b[33m",
  error: "\x1b[31;1m",
  fatal: "\x1b[31;1m",
};
const PRIORITIES: Record<LogLevel, number> = { debug: 7, info: 6, warn: 4, error: 3, fatal: 2 };

/** Control characters (C0, DEL, C1), and the marks that reorder or break lines on a terminal. */
const UNSAFE = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;
const BARE = /^[^\s"'=\\]+$/;

/** One line for a person: `2026-01-02 15:04:05 INFO  job received  job=42 runner=7e3b05c2`, with its line end. */
function textLine(
  level: LogLevel,
  time: Date,
  message: string,
  fields: readonly (readonly [string, unknown])[],
  style: TextStyle,
): string {
  const word = style.colors ? `${COLORS[level]}${WORDS[level]}\x1b[0m` : WORDS[level];
  let line = style.prefix === "journal" ? `<${PRIORITIES[level]}>` : `${stamp(time)} ${word} `;
  // Two spaces come before the fields and nowhere else.
  line += neutralised(message).replace(/ {2,}/g, " ");
  let gap = "  ";
  for (const [name, value] of fields) {
    if (value === undefined) continue;
    const shown = quote(value);
    line += style.colors ? `${gap}\x1b[2m${neutralised(name)}=\x1b[0m${shown}` : `${gap}${neutralised(name)}=${shown}`;
    gap = " ";
  }
  return `${line}\n`;
}

function stamp(time: Date): string {
  const two = (value: number): string => (value < 10 ? `0${value}` : String(value));
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

function quote(value: unknown): string {
  const text = typeof value === "string" ? value : typeof value === "object" ? JSON.stringify(value) : String(value);
  const plainText = text ?? String(value);
  if (BARE.test(plainText) && neutralised(plainText) === plainText) return plainText;
  // Backslashes first: a value that ends in one would take the closing quote along.
  return `"${neutralised(plainText.replaceAll("\\", "\\\\").replaceAll('"', '\\"'))}"`;
}

/** A value cannot end its line, forge another or move the cursor. */
function neutralised(text: string): string {
  return text.replace(UNSAFE, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\r") return "\\r";
    if (character === "\t") return "\\t";
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** Where finished lines of the log go. Writing never throws and never waits. */
export interface LogOutput {
  write(line: string): void;
  /** Resolves once everything written has left, or after `limitMs`. */
  flush(limitMs: number): Promise<void>;
}

/** Text that may wait for a slow reader before lines are dropped. */
const MOST_PENDING_BYTES = 1024 * 1024;

/**
 * A stream (stderr) as the log's output. A reader that is gone costs the lines and nothing else; for a slow one at most
 * `mostPendingBytes` wait in memory, later lines are dropped and counted, and `dropped` makes the line that says so.
 */
export function streamOutput(
  stream: Writable,
  dropped: (count: number) => string,
  mostPendingBytes = MOST_PENDING_BYTES,
): LogOutput {
  let pendingBytes = 0;
  let lost = 0;
  const waiting = new Set<() => void>();
  // Without a listener EPIPE would be an uncaught exception.
  stream.on("error", () => {});

  const send = (line: string): void => {
    // Counted here because under Bun `writableLength` of stderr stays 0 whatever is queued.
    const bytes = Buffer.byteLength(line);
    pendingBytes += bytes;
    const settled = (): void => {
      pendingBytes -= bytes;
      if (pendingBytes > 0) return;
      for (const done of waiting) done();
    };
    try {
      stream.write(line, settled);
    } catch {
      settled();
    }
  };

  return {
    write(line) {
      if (pendingBytes > mostPendingBytes) {
        lost++;
        return;
      }
      if (lost > 0) {
        const count = lost;
        lost = 0;
        send(dropped(count));
      }
      send(line);
    },
    async flush(limitMs) {
      if (pendingBytes === 0) return;
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer);
          waiting.delete(done);
          resolve();
        };
        const timer = setTimeout(done, limitMs);
        waiting.add(done);
      });
    },
  };
}

/** Is descriptor `fd` systemd's journal? The journal then adds the time itself and reads `<4>` as a level. */
export function leadsToJournal(env: NodeJS.ProcessEnv, fd: number): boolean {
  if (env.JOURNAL_STREAM === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return env.JOURNAL_STREAM === `${dev}:${ino}`;
  } catch {
    return false;
  }
}
