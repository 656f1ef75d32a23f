import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { inspect } from "node:util";
import type Docker from "dockerode";

/** Largest answer that is kept in memory: a list of all containers of a busy host has some MB. */
const LARGEST_ANSWER_BYTES = 64 * 1024 * 1024;
const LARGEST_COMPLAINT_BYTES = 64 * 1024;

/** An answer of the daemon that says no. */
export class DaemonError extends Error {
  override readonly name = "DaemonError";
  readonly status: number;
  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

type Dial = Docker["modem"]["dial"];
type DialOptions = Parameters<Dial>[0];
type Result = Parameters<NonNullable<Parameters<Dial>[1]>>[1];

/** Not every method of the library takes a signal: the signal of the call that is being made. */
type CurrentSignal = () => AbortSignal | undefined;

const ANY_STATUS: Record<string, boolean> = Object.fromEntries(
  Array.from({ length: 900 }, (_, index) => [String(index + 100), true]),
);

/**
 * Bounds what `modem` reads: answers are collected up to a limit, complaints up to a smaller one, and a complaint becomes a
 * `DaemonError` with its status. Streams are handed over as they are. Each request ends with `current`'s signal.
 */
export function boundAnswers(
  modem: Docker["modem"],
  current: CurrentSignal,
  largestBytes = LARGEST_ANSWER_BYTES,
): void {
  sparePrinting(modem);
  const dial: Dial = modem.dial.bind(modem);
  modem.dial = (options, callback) => {
    const accepted = new Map(Object.entries(options.statusCodes ?? {}));
    const done = (error: unknown, result: Result): void => callback?.(error === null ? null : asError(error), result);
    const abortSignal = bothOf(options.abortSignal, current());
    const ending = abortSignal === undefined ? {} : { abortSignal };
    // A duplex over a plain connection is made by the modem itself, of the response it would have judged.
    if (options.openStdin === true) {
      dial({ ...options, ...ending }, (error, result) => done(error ? renamed(error) : null, result));
      return;
    }
    const streamed: DialOptions = { ...options, ...ending, isStream: true, statusCodes: ANY_STATUS };
    dial(streamed, (error, result) => {
      if (error) {
        done(renamed(error), null);
        return;
      }
      if (!isResponse(result)) {
        done(null, result); // an upgraded connection
        return;
      }
      const status = result.statusCode ?? 0;
      const good = accepted.get(String(status)) === true;
      if (good && options.isStream === true) {
        done(null, result);
        return;
      }
      collect(result, good ? largestBytes : LARGEST_COMPLAINT_BYTES, good).then(
        (text) => {
          if (good) done(null, parseJson(text) ?? Buffer.from(text));
          else done(new DaemonError(complaintOf(text, status), status), null);
        },
        (cause: unknown) => done(cause, null),
      );
    });
  };
}

/**
 * The library prints each request in all its depth, agent and sockets included, for a debug log that nobody reads: most of the
 * time that a job's calls would take.
 */
function sparePrinting(modem: Docker["modem"]): void {
  const build: unknown = Reflect.get(modem, "buildRequest");
  if (typeof build !== "function") return;
  const value = (...args: unknown[]): unknown => {
    const [request] = args;
    if (typeof request === "object" && request !== null) {
      Object.defineProperty(request, inspect.custom, { value: () => "a request", configurable: true });
    }
    return Reflect.apply(build, modem, args);
  };
  Object.defineProperty(modem, "buildRequest", { value, configurable: true, writable: true });
}

function bothOf(one: AbortSignal | undefined, other: AbortSignal | undefined): AbortSignal | undefined {
  if (one === undefined || other === undefined || one === other) return one ?? other;
  return AbortSignal.any([one, other]);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function isResponse(result: unknown): result is IncomingMessage {
  return typeof result === "object" && result !== null && "statusCode" in result;
}

/** The text of a stream. One that is longer than `largestBytes` is an error where `whole`, and cut otherwise. */
async function collect(stream: Readable, largestBytes: number, whole: boolean): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    const piece = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
    chunks.push(piece);
    bytes += piece.length;
    if (bytes <= largestBytes) continue;
    if (whole) throw new Error(`the daemon's answer is larger than ${largestBytes} bytes`);
    break;
  }
  return Buffer.concat(chunks).toString("utf8", 0, largestBytes);
}

function parseJson(text: string): object | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

function complaintOf(text: string, status: number): string {
  const json = parseJson(text);
  const message =
    typeof json === "object" && json !== null ? (Reflect.get(json, "message") ?? Reflect.get(json, "cause")) : null;
  const said = typeof message === "string" ? message : text;
  return said.trim() === "" ? `the daemon answered ${status}` : said.trim().slice(0, 4000);
}

/** A complaint about an upgraded request, worded by the modem. */
function renamed(error: unknown): unknown {
  if (!(error instanceof Error) || !("statusCode" in error) || typeof error.statusCode !== "number") return error;
  const said = /^\(HTTP code \d+\) .*? - ([\s\S]*)$/.exec(error.message)?.[1]?.trim();
  return new DaemonError(said === undefined || said === "" ? error.message : said.slice(0, 4000), error.statusCode);
}
