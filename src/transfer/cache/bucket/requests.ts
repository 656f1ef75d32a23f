import type { BucketConfig } from "../../../config/config.ts";
import type { Connections } from "../../../coordinator/connection/connections.ts";
import { answerKind, mayPass, type Sink } from "../../../coordinator/contract.ts";
import type { Answer, Body, Call } from "../../../coordinator/exchange.ts";
import { describeBroken } from "../../../coordinator/trouble.ts";
import { ConfigError, SystemFailure } from "../../../errors.ts";
import { retry } from "../../../time.ts";
import { type ObjectRequest, partOf, type Way } from "./way.ts";

export const TRIES = 3;
const LARGE_BYTES = 64 * 2 ** 20;
const SILENCE_MS = 60_000;
/** The caller's signal is the limit. */
const LONGEST_MS = 24 * 3_600_000;

export interface RequestOptions {
  readonly connections: Pick<Connections, "route">;
  /** Where `<host>.crt` of a bucket with a private certificate is looked for. */
  readonly certsDir: string;
  readonly userAgent: string;
  /** How long a signed address is good for. */
  readonly lifeMs: number;
  /** Pause before the second try of a call; it grows with each try. 1 s outside of tests. */
  readonly retryPauseMs?: number;
  /** Larger objects are moved in pieces of a quarter of it, several at once. 64 MiB outside of tests. */
  readonly largeBytes?: number;
}

export interface BucketRequest extends Omit<ObjectRequest, "headers" | "lifeMs"> {
  readonly headers?: Readonly<Record<string, string>>;
  /** Never part of a signature. */
  readonly unsigned?: Readonly<Record<string, string>>;
  readonly body?: Body;
  readonly sink?: Sink;
  /** Whether only the headers count. */
  readonly headersOnly?: boolean;
  /** Purpose of the call, as the end of "cannot …". */
  readonly what: string;
}

/** Requests on the objects of one bucket. A missing object is an answer; whatever else is not fine is thrown. */
export interface Requests {
  /** @throws {SystemFailure} `retry` tells what may pass */
  once(request: BucketRequest, signal: AbortSignal): Promise<Answer>;
  /** The same, three times where that may help. */
  call(request: BucketRequest, signal: AbortSignal): Promise<Answer>;
  readonly largeBytes: number;
  repeat<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T>;
}

export function createRequests(bucket: BucketConfig, way: () => Promise<Way>, options: RequestOptions): Requests {
  const { connections, certsDir, userAgent, lifeMs, retryPauseMs = 1000, largeBytes = LARGE_BYTES } = options;
  const tls = { tlsCaFile: undefined, tlsCertFile: undefined, tlsKeyFile: undefined, certsDir };

  const send = async (
    request: BucketRequest,
    own: Way,
    signal: AbortSignal,
  ): Promise<{ readonly answer: Answer; readonly failed: (reason: string, again: boolean) => SystemFailure }> => {
    const { method, headers = {}, unsigned = {}, body, sink, what } = request;
    const admitted = await own.admit({ ...request, headers, lifeMs }, signal);
    const { url } = admitted;
    const failed = (reason: string, again: boolean, cause?: unknown): SystemFailure =>
      new SystemFailure(`cannot ${what} the bucket ${bucket.name} at ${url.host}: ${reason}`, { retry: again, cause });
    const call: Call = {
      method,
      path: `${url.pathname}${url.search}`,
      headers: ["user-agent", userAgent, ...Object.entries({ ...headers, ...admitted.headers, ...unsigned }).flat()],
      body,
      idleMs: SILENCE_MS,
      totalMs: LONGEST_MS,
      answerBytes: 64 * 1024,
      ...(sink === undefined ? {} : { sink, ranged: true }),
    };
    const result = await connections
      .route(url, tls)
      .send(call, true, signal)
      .catch((error: unknown) => {
        if (error instanceof ConfigError) throw failed(error.message, false, error);
        throw error;
      });
    if (result.kind === "broken") throw failed(describeBroken(result.error, url.host), true, result.error);
    return { answer: result.answer, failed };
  };

  const once = async (request: BucketRequest, signal: AbortSignal): Promise<Answer> => {
    const own = await way();
    let { answer, failed } = await send(request, own, signal);
    if (answerKind(answer.status) !== "fine" && own.learn(answer))
      ({ answer, failed } = await send(request, own, signal));
    const kind = answerKind(answer.status);
    if (kind === "missing" && !own.bucketGone.includes(own.codeOf(answer))) return answer;
    // An empty object has no first byte to return.
    if (kind === "mismatch" && answer.status === 416 && (request.headersOnly === true || request.sink !== undefined))
      return answer;
    if (request.headersOnly === true && kind === "fine") return answer;
    if (kind === "mismatch") throw failed("the cache was replaced while it was read", true);
    if (kind !== "fine") throw failed(describeRefusal(answer, own), mayPass(kind));
    if (answer.cut !== undefined) throw failed(`the answer was cut: ${answer.cut}`, true);
    return answer;
  };
  const repeat: Requests["repeat"] = (work, signal) =>
    retry({ attempts: TRIES, firstMs: retryPauseMs, maxMs: retryPauseMs * 10 }, work, signal);
  return { once, repeat, largeBytes, call: (request, signal) => repeat(() => once(request, signal), signal) };
}

export function isMissing({ status }: Answer): boolean {
  return answerKind(status) === "missing";
}

/** The text never contains the address, which is a secret. */
function describeRefusal(answer: Answer, way: Way): string {
  const said = [`status ${answer.status}`, way.codeOf(answer), partOf(answer, "Message").slice(0, 300)];
  const told = said.filter((part) => part !== "").join(", ");
  const advice = way.advise(answer);
  return advice === "" ? told : `${told}; ${advice}`;
}
