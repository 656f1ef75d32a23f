import type { IncomingMessage } from "node:http";
import { z } from "zod";
import { describeError } from "../../../src/errors.ts";
import { backoff, deadline, pause } from "../../../src/time.ts";
import { version } from "../../../src/version.ts";
import type { Access } from "../access/access.ts";
import type { Login } from "../access/login.ts";
import type { KubernetesSettings } from "../settings/settings.ts";
import { createHttp, type HttpRequest } from "./http.ts";
import { ApiFailure, excerptOf, failureOf } from "./status.ts";

export interface ApiCall {
  /** Completes "Cannot …": `create the pod`. */
  readonly what: string;
  readonly method: HttpRequest["method"];
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** Calls to one API server. */
export interface Api {
  readonly access: Access;
  /**
   * The answer's JSON. Failures that may pass are tried again, so calls must be safe to repeat.
   * @throws {ApiFailure}
   */
  call(call: ApiCall, signal: AbortSignal): Promise<unknown>;
  /** As `call`, for an answer that the schema describes. */
  read<T>(call: ApiCall, schema: z.ZodType<T>, signal: AbortSignal): Promise<T>;
  /** An answer as a stream. The call is not repeated; the caller reads the stream or destroys it. @throws {ApiFailure} */
  stream(call: ApiCall, signal: AbortSignal): Promise<IncomingMessage>;
  /** A login for something other than a call; `refused` is a login that the server did not accept. */
  login(refused: Login | null, signal: AbortSignal): Promise<Login>;
  close(): void;
}

const HEAD_MS = 40_000;
const WHOLE_MS = 60_000;
const MOST_BYTES = 32 * 1024 * 1024;
const FIRST_PAUSE_MS = 500;
const LONGEST_RETRY_AFTER_MS = 30_000;
/** Pauses that the server asks for do not count as tries, until they add up to this. */
const MOST_ASKED_FOR_MS = 300_000;

export function createApi(access: Access, retry: KubernetesSettings["retry"]): Api {
  const http = createHttp(access, `alloy-runner/${version}`);

  const pathOf = ({ path, query }: ApiCall): string => {
    const search = new URLSearchParams(query).toString();
    return search === "" ? path : `${path}?${search}`;
  };

  /** Makes one try, and another one with a new login where the server refuses the first login. */
  const open = async (call: ApiCall, signal: AbortSignal): Promise<IncomingMessage> => {
    const { what, method, body } = call;
    const path = pathOf(call);
    let refused: Login | null = null;
    for (;;) {
      const login: Login = await access.logins.get(refused, signal);
      const answer = await http.send(
        {
          what,
          method,
          path,
          headMs: HEAD_MS,
          ...(body === undefined ? {} : { body: Buffer.from(JSON.stringify(body)) }),
        },
        login,
        signal,
      );
      const status = answer.statusCode ?? 0;
      if (status >= 200 && status < 300) return answer;
      const said = await readAll(answer, what, access.server, signal);
      if (status === 401 && refused === null) {
        refused = login;
        continue;
      }
      throw failureOf(what, access.server, status, said, answer.headers["retry-after"]);
    }
  };

  const attemptsFor = (error: ApiFailure): number => {
    const own = Object.entries(retry.limits).find(([text]) => error.said.includes(text));
    return own?.[1] ?? (error.retry ? retry.attempts : 1);
  };

  const read = async <T>(call: ApiCall, schema: z.ZodType<T>, signal: AbortSignal): Promise<T> => {
    const waits = backoff({ firstMs: FIRST_PAUSE_MS, maxMs: retry.maxMs });
    let askedForMs = 0;
    for (let attempt = 1; ; ) {
      signal.throwIfAborted();
      try {
        const answer = await open(call, signal);
        return parsed(await readAll(answer, call.what, access.server, signal), schema, call.what, access.server);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof ApiFailure)) throw error;
        const asked = error.retry ? error.retryAfterMs : null;
        if (asked !== null && askedForMs < MOST_ASKED_FOR_MS) {
          const waitMs = Math.min(Math.max(asked, 100), LONGEST_RETRY_AFTER_MS);
          askedForMs += waitMs;
          await pause(waitMs, signal);
          continue;
        }
        if (attempt >= attemptsFor(error)) throw error;
        attempt++;
        await pause(waits.next(), signal);
      }
    }
  };

  return {
    access,
    login: (refused, signal) => access.logins.get(refused, signal),
    stream: open,
    read,
    call: async (call, signal) => await read(call, z.unknown(), signal),
    close: () => http.close(),
  };
}

/** @throws {ApiFailure} the body is not what the schema describes. What was read of a secret is not quoted. */
function parsed<T>(body: Buffer, schema: z.ZodType<T>, what: string, server: string): T {
  const text = body.toString("utf8").trim();
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    const came = text === "" ? "nothing" : text.startsWith("{") ? "other JSON, or half of it" : excerptOf(body);
    throw new ApiFailure(`Cannot ${what}: ${server} answered, and not as the Kubernetes API does: ${came}`, {
      status: 0,
      cause,
    });
  }
}

async function readAll(answer: IncomingMessage, what: string, server: string, signal: AbortSignal): Promise<Buffer> {
  using limit = deadline(signal, WHOLE_MS, new Error(`the answer was not whole within ${WHOLE_MS / 1000} s`));
  const onAbort = (): void => void answer.destroy(limit.signal.reason);
  limit.signal.addEventListener("abort", onAbort, { once: true });
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of answer) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > MOST_BYTES) throw new Error(`the answer has more than ${MOST_BYTES} bytes`);
    }
  } catch (cause) {
    signal.throwIfAborted();
    throw new ApiFailure(`Cannot ${what}: the answer of ${server} broke off: ${describeError(cause)}`, {
      status: 0,
      cause,
    });
  } finally {
    limit.signal.removeEventListener("abort", onAbort);
    answer.destroy();
  }
  return Buffer.concat(chunks);
}
