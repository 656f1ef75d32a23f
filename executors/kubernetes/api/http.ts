import { once } from "node:events";
import { type IncomingMessage, Agent as PlainAgent, request as plainRequest } from "node:http";
import { Agent, type AgentOptions, type RequestOptions, request } from "node:https";
import { describeError } from "../../../src/errors.ts";
import { deadline } from "../../../src/time.ts";
import type { Access } from "../access/access.ts";
import type { Login } from "../access/login.ts";
import { ApiFailure } from "./status.ts";
import { TunnelAgent } from "./tunnel.ts";

export interface HttpRequest {
  /** Completes "Cannot …". */
  readonly what: string;
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** The path with its query. */
  readonly path: string;
  readonly body?: Buffer;
  readonly contentType?: string;
  /** Limit until the head of the answer has arrived. */
  readonly headMs: number;
}

/** Requests to one API server; connections are kept. */
export interface Http {
  /** The head of an answer; its body is to be read or destroyed. @throws {ApiFailure} there is none */
  send(options: HttpRequest, login: Login, signal: AbortSignal): Promise<IncomingMessage>;
  close(): void;
}

const MOST_SOCKETS = 16;

/** What TLS needs to know about server and client. */
export function tlsOf(access: Access, login: Login) {
  return {
    ...(access.ca === undefined ? {} : { ca: access.ca }),
    ...(access.serverName === undefined ? {} : { servername: access.serverName }),
    ...(login.cert === undefined ? {} : { cert: login.cert, key: login.key }),
    rejectUnauthorized: !access.insecure,
  };
}

/** The agent whose connections lead to the server, directly or through the proxy. */
export function agentFor({ proxy }: Access, options: AgentOptions): Agent {
  return proxy === undefined ? new Agent(options) : new TunnelAgent(proxy, options);
}

export function createHttp(access: Access, userAgent: string): Http {
  const plain = access.server.startsWith("http:");
  const agent = agentFor(access, { keepAlive: true, maxSockets: MOST_SOCKETS });
  const plainAgent = new PlainAgent({ keepAlive: true, maxSockets: MOST_SOCKETS });
  const begin = (options: RequestOptions) => {
    const url = `${access.server}${options.path}`;
    return plain ? plainRequest(url, { ...options, agent: plainAgent }) : request(url, { ...options, agent });
  };
  return {
    async send({ what, method, path, body, contentType = "application/json", headMs }, login, signal) {
      const late = new Error(`no answer within ${headMs / 1000} s`);
      using limit = deadline(signal, headMs, late);
      const asking = begin({
        method,
        path,
        headers: {
          ...login.headers,
          accept: "application/json",
          "user-agent": userAgent,
          // Without this header the body of a DELETE would be taken for the next request.
          ...(body === undefined ? {} : { "content-type": contentType, "content-length": body.length }),
        },
        ...tlsOf(access, login),
      });
      // If the connection breaks later, whoever reads the body gets that error.
      asking.on("error", () => {});
      const onAbort = (): void => void asking.destroy(limit.signal.reason);
      limit.signal.addEventListener("abort", onAbort, { once: true });
      try {
        limit.signal.throwIfAborted();
        asking.end(body);
        const [answer]: IncomingMessage[] = await once(asking, "response");
        if (answer === undefined) throw new Error("no answer");
        return answer;
      } catch (error) {
        signal.throwIfAborted();
        const cause = limit.signal.aborted ? late : error;
        throw new ApiFailure(
          `Cannot ${what}: the Kubernetes API at ${access.server} cannot be reached: ${describeError(cause)}`,
          {
            status: 0,
            cause,
          },
        );
      } finally {
        limit.signal.removeEventListener("abort", onAbort);
      }
    },
    close: () => {
      agent.destroy();
      plainAgent.destroy();
    },
  };
}
