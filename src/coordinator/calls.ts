import { ConfigError, describeError, SystemFailure } from "../errors.ts";
import { type ApiUrl, apiUrl } from "./api-url.ts";
import type { Connections } from "./connection/connections.ts";
import {
  answerKind,
  type CoordinatorSettings,
  type MadeRequest,
  mayPass,
  type Sink,
  TroubleCause,
} from "./contract.ts";
import { type Answer, type Body, type Call, lengthOf } from "./exchange.ts";
import type { Identity } from "./identity.ts";
import { retryAfter } from "./retry-after.ts";
import { describeAnswer, describeBroken } from "./trouble.ts";

/** What talking to any coordinator takes. */
export interface CoordinatorDeps {
  readonly connections: Connections;
  readonly identity: Identity;
  /** Told after each request. */
  readonly onRequest?: (request: MadeRequest) => void;
  /** `[sr]_` and 12 letters or digits that stand for this machine; GitLab shows it. */
  readonly systemId?: string;
  readonly bounds?: Partial<Bounds>;
}

export interface Bounds {
  /** Deadline of a job request. Breaking one off can lose a job, and GitLab holds them for 50 s. */
  readonly jobRequestMs: number;
  /** Longest time of any other call in which nothing moves. */
  readonly silenceMs: number;
  /** Longest silence of a coordinator that has been sent a file: it may move it to its storage before it answers. */
  readonly uploadSilenceMs: number;
  /** Longest upload of a file as a whole; by default it follows from its size. */
  readonly uploadMs?: number;
}

const usualBounds: Bounds = { jobRequestMs: 120_000, silenceMs: 60_000, uploadSilenceMs: 600_000 };
/** The slowest link that a body is sent over to its end. */
const SLOWEST_BYTES_PER_MS = 4;
export const ANSWER_BYTES = 1024 * 1024;
/** Addresses whose last request was in trouble. */
const MOST_TROUBLED = 1000;
/** An answer of unknown size is bounded by its silence. */
const LONGEST_MS = 2 ** 31 - 1;

/** Everything about one coordinator but the runner's token. */
export type CoordinatorTarget = Omit<CoordinatorSettings, "token">;

export interface ApiCall {
  readonly method: Call["method"];
  /** Below the API's path, ids in place. */
  readonly path: string;
  /** The pattern of `path`. */
  readonly endpoint: string;
  readonly headers?: readonly string[];
  readonly contentType?: string;
  readonly body?: Body;
  /** May arrive twice without harm. */
  readonly repeatable: boolean;
  readonly deadlineMs?: number;
  /** Another bound on silence than the usual. */
  readonly silenceMs?: number;
  /** Another bound on the whole call than the usual. */
  readonly totalMs?: number;
  readonly answerBytes?: number;
  readonly sink?: Sink;
}

/** An answer, or why there is none. */
export type Reply =
  /** `requestId`: what the coordinator was told that this request is called. */
  | { readonly kind: "answer"; readonly answer: Answer; readonly requestId?: string }
  | { readonly kind: "silent"; readonly reason: string; readonly cause: unknown };

export interface Caller {
  readonly api: ApiUrl;
  readonly bounds: Bounds;
  /** Rejects with `signal.reason`, or what the call's sink threw, only. */
  call(call: ApiCall, signal: AbortSignal): Promise<Reply>;
  /** What jobs need to reach the coordinator. */
  readonly serverTls: { readonly ca?: string; readonly cert?: string; readonly key?: string };
}

/** @throws {ConfigError} a url that is neither http nor https */
export function createCaller(target: CoordinatorTarget, deps: CoordinatorDeps): Caller {
  const api = apiUrl(target.url);
  const route = deps.connections.route(target.url, target);
  const bounds = { ...usualBounds, ...deps.bounds };
  const troubled = new Set<string>();
  /** @returns whether the request before to this address was in trouble */
  const seeTrouble = (address: string, status: number): boolean => {
    const before = troubled.delete(address);
    if (!mayPass(answerKind(status))) return before;
    troubled.add(address);
    // Of calls that were given up nobody hears again.
    for (const oldest of troubled) if (troubled.size > MOST_TROUBLED) troubled.delete(oldest);
    return before;
  };
  const common = [
    "accept",
    "application/json",
    "user-agent",
    deps.identity.userAgent,
    ...(api.authorization === undefined ? [] : ["authorization", api.authorization]),
  ];

  return {
    api,
    bounds,
    get serverTls() {
      return route.serverTls;
    },
    async call(call, signal) {
      const bytes = call.body === undefined ? 0 : lengthOf(call.body);
      const idleMs = call.deadlineMs ?? call.silenceMs ?? bounds.silenceMs;
      const contentType = call.body === undefined ? [] : ["content-type", call.contentType ?? "application/json"];
      const requestId = deps.connections.nextRequestId();
      const request: Call = {
        method: call.method,
        path: `${api.path}/${call.path}`,
        headers: [...common, "x-request-id", requestId, ...contentType, ...(call.headers ?? [])],
        body: call.body,
        idleMs,
        totalMs:
          call.totalMs ??
          (call.sink === undefined ? (call.deadlineMs ?? 2 * idleMs + bytes / SLOWEST_BYTES_PER_MS) : LONGEST_MS),
        answerBytes: call.answerBytes ?? ANSWER_BYTES,
        ...(call.sink === undefined ? {} : { sink: call.sink }),
      };
      const startedAt = performance.now();
      let status = 0;
      try {
        const result = await route.send(request, call.repeatable, signal);
        if (result.kind === "broken") {
          return { kind: "silent", reason: describeBroken(result.error, target.url.host), cause: result.error };
        }
        status = result.answer.status;
        return { ...result, requestId };
      } catch (error) {
        // What a certificate file or a proxy variable says; anything else is the signal's reason or a bug.
        if (!(error instanceof SystemFailure || error instanceof ConfigError)) throw error;
        return { kind: "silent", reason: describeError(error), cause: error };
      } finally {
        const { endpoint, method } = call;
        const again = seeTrouble(`${method} ${call.path}`, status);
        deps.onRequest?.({ endpoint, method, status, durationMs: performance.now() - startedAt, again });
      }
    },
  };
}

/**
 * A call that did not do what it was for, as a SystemFailure. It may be tried again after silence, 3xx, 5xx, 408, 425 and
 * 429; another 4xx is final.
 * @param what the call as the end of "Cannot …": `append to the trace of job 12`
 */
export function failure(what: string, reply: Reply, api: ApiUrl, secrets: readonly string[]): SystemFailure {
  const sentence = (reason: string): string => `Cannot ${what} at ${api.shown}: ${reason}`;
  if (reply.kind === "silent") {
    const cause = new TroubleCause(reply.reason, 0, undefined, reply.cause);
    return new SystemFailure(sentence(reply.reason), { retry: true, cause });
  }
  const { status, headers } = reply.answer;
  const reason = describeAnswer(reply.answer, api.origin, secrets);
  const kind = answerKind(status);
  const retry = mayPass(kind) || kind === "elsewhere" || kind === "fine";
  return new SystemFailure(sentence(reason), { retry, cause: new TroubleCause(reason, status, retryAfter(headers)) });
}
