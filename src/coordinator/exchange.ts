import { Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { pause } from "../time.ts";
import type { Client, Dispatcher } from "./connection/http-client.ts";
import type { Sink } from "./contract.ts";

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** A request's body: bytes at hand, or a stream of known length that can be opened again. */
export type Body = { readonly bytes: Uint8Array } | { readonly length: number; open(): Readable };

export interface Call {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With the query; as it goes over the wire. */
  readonly path: string;
  /** Name, value, name, value. */
  readonly headers: readonly string[];
  readonly body: Body | undefined;
  /** Longest silence: while sending, waiting for an answer, and for the whole of an answer's body. */
  readonly idleMs: number;
  /** Longest time for all of it. */
  readonly totalMs: number;
  /** Largest successful answer that is kept; a larger one is cut and its connection ended. */
  readonly answerBytes: number;
  /** The sink takes the body of an answer with status 206, too: a range was asked for. */
  readonly ranged?: boolean;
  /** Where the body of an answer with status 200 goes, piece by piece; it is not kept then, and silence is counted anew. */
  readonly sink?: Sink;
  /** Wait for a refusal after the first piece of a large body, for as long as one usually takes. */
  readonly hesitant?: boolean;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
  /** Why the body is not complete, if it is not. */
  readonly cut: string | undefined;
}

/** `untouched`: not a byte of an answer had come. */
export type Exchange =
  | { readonly kind: "answer"; readonly answer: Answer }
  | { readonly kind: "broken"; readonly error: Error; readonly untouched: boolean };

/** Larger bodies go out in pieces of this size: only then is it seen that a slow link still moves. */
const PIECE_BYTES = 64 * 1024;
/** After this time without a refusal a hesitant call goes on. */
const HESITATION_MS = 3000;
/** As much of a page that tells of an error is read; the rest is nobody's time. */
const ERROR_BYTES = 64 * 1024;

/**
 * One request on one connection, and its answer. Everything is bounded: time, silence, size.
 * Rejects with `signal.reason` or what `call.sink` threw only; what happens to the connection then is the caller's business, as after `broken`.
 */
export function exchange(client: Client, call: Call, signal: AbortSignal): Promise<Exchange> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const ended = new AbortController();
    const stream = call.body === undefined ? undefined : streamOf(call.body, call.hesitant ? ended.signal : undefined);
    stream?.on("error", () => {}); // undici tells of it; one that comes when nobody listens any more must harm nobody
    let controller: Dispatcher.DispatchController | undefined;
    let status = 0;
    let headers: Headers = {};
    let chunks: Buffer[] = [];
    let received = 0;
    let untouched = true;
    let settled = false;

    const finish = (): boolean => {
      if (settled) return false;
      settled = true;
      clearTimeout(silence);
      clearTimeout(limit);
      signal.removeEventListener("abort", onAbort);
      ended.abort();
      stream?.destroy();
      return true;
    };
    const breakOff = (error: Error): void => {
      // Before the request has begun there is nothing to break off but the attempt to connect.
      if (controller === undefined) client.destroy(error).catch(() => {});
      else controller.abort(error);
    };
    const answer = (cut: string | undefined): void => {
      const body = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
      if (finish()) resolve({ kind: "answer", answer: { status, headers, body, cut } });
    };
    const fail = (error: Error): void => {
      // A status is an answer, whatever became of the rest.
      if (status !== 0) answer(error.message);
      else if (finish()) resolve({ kind: "broken", error, untouched });
    };
    /** Hands a piece on; no other comes before it was taken. */
    const pour = (sink: Sink, chunk: Buffer, flow: Dispatcher.DispatchController): void => {
      const spilled = (error: unknown): void => {
        if (finish()) reject(error);
        breakOff(new Error("the answer cannot be stored"));
      };
      silence.refresh();
      try {
        const taking = sink(chunk);
        if (taking === undefined) return;
        flow.pause();
        taking.then(() => {
          if (settled) return;
          silence.refresh();
          flow.resume();
        }, spilled);
      } catch (error) {
        spilled(error);
      }
    };
    const onAbort = (): void => {
      if (finish()) reject(signal.reason);
      breakOff(new Error("aborted"));
    };
    const onTime = (ms: number): void => {
      const error = new Error(`${status === 0 ? "no answer" : "the answer was not complete"} within ${ms / 1000} s`);
      fail(error);
      breakOff(error);
    };
    const silence = setTimeout(onTime, call.idleMs, call.idleMs);
    const limit = call.totalMs !== call.idleMs ? setTimeout(onTime, call.totalMs, call.totalMs) : undefined;
    signal.addEventListener("abort", onAbort, { once: true });

    client.dispatch(
      {
        method: call.method,
        path: call.path,
        headers: headersOf(call),
        body: stream ?? bytesOf(call.body),
      },
      {
        onRequestStart(started) {
          controller = started;
          if (settled) started.abort(new Error("aborted"));
        },
        onResponseStarted() {
          untouched = false;
        },
        onBodySent() {
          if (!settled) silence.refresh();
        },
        onResponseStart(_controller, statusCode, answered) {
          if (statusCode < 200 || settled) return; // interim answers don't win time
          status = statusCode;
          headers = answered;
          silence.refresh();
        },
        onResponseData(flow, chunk) {
          // After a pause undici tells of an empty piece first, and would do so for ever if it led to another pause.
          if (settled || chunk.length === 0) return;
          if (call.sink !== undefined && (status === 200 || (status === 206 && call.ranged === true))) {
            pour(call.sink, chunk, flow);
            return;
          }
          const most = status < 300 ? call.answerBytes : Math.min(call.answerBytes, ERROR_BYTES);
          const room = most - received;
          received += chunk.length;
          if (room > 0) chunks.push(chunk.length > room ? chunk.subarray(0, room) : chunk);
          if (chunk.length <= room) return;
          const error = new Error(`the answer is larger than ${most} bytes`);
          // Nobody uses an incomplete answer as a whole; its beginning tells what it was.
          chunks = [headOf(chunks, ERROR_BYTES)];
          fail(error);
          breakOff(error);
        },
        onResponseEnd() {
          answer(undefined);
          chunks = [];
        },
        onResponseError(_controller, error) {
          fail(error);
        },
      },
    );
  });
}

/** A copy of the first `bytes` of what came: a slice would hold on to all of it. */
function headOf(chunks: readonly Buffer[], bytes: number): Buffer {
  const head = Buffer.alloc(bytes);
  let length = 0;
  for (const chunk of chunks) {
    if (length === bytes) break;
    length += chunk.copy(head, length);
  }
  return head.subarray(0, length);
}

function headersOf({ headers, body }: Call): string[] {
  if (body === undefined) return [...headers];
  return [...headers, "content-length", String(lengthOf(body))];
}

/** Bytes to send. */
export function lengthOf(body: Body): number {
  return "bytes" in body ? body.bytes.length : body.length;
}

function bytesOf(body: Body | undefined): Uint8Array | null {
  return body !== undefined && "bytes" in body ? body.bytes : null;
}

/** Whether the body goes out piece by piece, so that the other side may refuse it before all of it was sent. */
export function isStreamed(body: Body | undefined): boolean {
  return body !== undefined && (!("bytes" in body) || body.bytes.length > 2 * PIECE_BYTES);
}

/** @param hesitateUntil pause after the first piece until this fires, or for a while; without it there is no pause */
function streamOf(body: Body, hesitateUntil: AbortSignal | undefined): Readable | undefined {
  if (!isStreamed(body)) return undefined;
  const stream = "bytes" in body ? Readable.from(pieces(body.bytes), { objectMode: false }) : body.open();
  return hesitateUntil === undefined ? stream : Readable.from(hesitantly(stream, hesitateUntil), { objectMode: false });
}

function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

async function* hesitantly(stream: Readable, until: AbortSignal): AsyncGenerator<Uint8Array> {
  let sent = 0;
  for await (const chunk of stream) {
    if (!(chunk instanceof Uint8Array)) throw new TypeError("a body must be a stream of bytes");
    const first = chunk.subarray(0, Math.max(0, PIECE_BYTES - sent));
    if (first.length > 0) {
      yield first;
      sent += first.length;
      if (sent === PIECE_BYTES) await pause(HESITATION_MS, until);
    }
    const rest = chunk.subarray(first.length);
    if (rest.length === 0) continue;
    yield rest;
    await setImmediate(); // what has arrived is read before more is written
  }
}
