import { timingSafeEqual } from "node:crypto";
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { pipeline } from "node:stream/promises";
import { boundConnections } from "../../bound-connections.ts";
import { nowMs } from "../channel.ts";
import { applyFault, type Intercept } from "../faults/faults.ts";
import { type BodyEnd, type BodyLimits, readBody } from "./body.ts";
import type { RecordedRequest, Recorder } from "./recorder.ts";
import type { Reply } from "./reply.ts";
import { type Route, routeOf } from "./routes.ts";

/** A request on its way through the coordinator. */
export interface Call extends Route {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  /** A header that came exactly once, else `undefined`. */
  header(name: string): string | undefined;
  /** Fires when the caller is gone or the coordinator is closed. */
  readonly signal: AbortSignal;
  /** Fires when the coordinator is closed: for work that goes on without its caller. */
  readonly closing: AbortSignal;
  /** What is recorded of it. */
  readonly request: RecordedRequest;
  /** Note that it waits for work from now on. */
  held(): void;
  body(limits: BodyLimits, onChunk: (chunk: Buffer) => void | Promise<void>): Promise<BodyEnd>;
}

export interface ServerOptions {
  readonly host: string;
  readonly port: number;
  /** PEM texts. `requestCert`: callers need a certificate that `ca` signed. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly ca?: string; readonly requestCert?: boolean };
  /** What stands before `/api/v4` in paths: `/gitlab`. */
  readonly pathPrefix: string;
  /** The `Authorization` without which nobody is heard; `undefined`: it is not looked at. */
  readonly authorization: string | undefined;
  readonly idleTimeoutMs: number;
  readonly requestsPerConnection: number;
  readonly recorder: Recorder;
  /** Headers of every answer. */
  commonHeaders(request: IncomingMessage): Readonly<Record<string, string>>;
  intercept(): Intercept | undefined;
  handle(call: Call): Promise<Reply>;
}

export interface LocalServer {
  /** Without a path. */
  readonly origin: string;
  /** Ends everything at once, held requests and open connections too. */
  close(): Promise<void>;
}

/** Listens when it resolves. Rejects with what the system said about the address. */
export async function startServer(options: ServerOptions): Promise<LocalServer> {
  const { host, port, tls, recorder } = options;
  const closing = new AbortController();
  const connections = new Map<object, { readonly number: number; requests: number }>();
  const counts = new Map<string, number>();
  let connectionNumber = 0;
  let underWay = 0;
  let idle: () => void = () => undefined;

  const connectionOf = (request: IncomingMessage): { readonly number: number; requests: number } => {
    const { socket } = request;
    const known = connections.get(socket);
    if (known !== undefined) return known;
    const made = { number: ++connectionNumber, requests: 0 };
    connections.set(socket, made);
    socket.once("close", () => connections.delete(socket));
    return made;
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = request.url ?? "/";
    const method = request.method ?? "GET";
    const url = new URL(path, "http://local");
    const route = routeOf(method, url.pathname, options.pathPrefix);
    const connection = connectionOf(request);
    const last = ++connection.requests >= options.requestsPerConnection;
    const headers = headersOf(request.rawHeaders);
    const recording = recorder.begin({
      method,
      path,
      endpoint: route.endpoint,
      jobId: route.id,
      headers,
      rawHeaders: request.rawHeaders,
      connection: connection.number,
      arrivedAt: nowMs(),
    });
    const gone = new AbortController();
    const hangUp = (): void => gone.abort(closing.signal.reason ?? new Error("The caller is gone"));
    closing.signal.addEventListener("abort", hangUp, { once: true });
    response.once("close", () => {
      closing.signal.removeEventListener("abort", hangUp);
      recording.ended();
      if (!response.writableFinished) hangUp();
    });
    if (closing.signal.aborted) hangUp();

    const handle = (): Promise<Reply> =>
      options.handle({
        ...route,
        method,
        path,
        query: url.searchParams,
        header: (name) => singleHeader(request.rawHeaders, name),
        signal: gone.signal,
        closing: closing.signal,
        request: recording.entry,
        held: recording.held,
        body: async (limits, onChunk) => {
          const end = await readBody(request, limits, (chunk) => {
            recording.chunk(chunk);
            return onChunk(chunk);
          });
          if (end === "complete") recording.received();
          return end;
        },
      });
    const send = (reply: Reply): Promise<void> => {
      // Set by hand, because Node would announce the idle timeout in a `Keep-Alive` header, and no coordinator does.
      const keep = !last && request.httpVersion === "1.1" && !/\bclose\b/i.test(headers.connection ?? "");
      const all = {
        ...options.commonHeaders(request),
        ...lowerCase(reply.headers),
        connection: keep ? "keep-alive" : "close",
      };
      recording.answered(reply.status, all);
      return sendReply(request, response, { ...reply, headers: all });
    };

    const key = `${route.endpoint} ${route.id ?? ""}`;
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    const fault = options.intercept()?.({ method, path, endpoint: route.endpoint, jobId: route.id, headers, count });
    if (fault === undefined) return await send(await handle());
    recording.fault(fault.kind);
    return await applyFault(fault, { response, handle, send, signal: gone.signal });
  };

  const expected = options.authorization === undefined ? undefined : Buffer.from(options.authorization);
  /** Before anything of a body is read. */
  const isStranger = (request: IncomingMessage): boolean => {
    const given = Buffer.from(request.headers.authorization ?? "");
    return expected !== undefined && !(given.length === expected.length && timingSafeEqual(given, expected));
  };

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    if (isStranger(request)) {
      const { socket } = request;
      response.on("error", () => undefined);
      response.writeHead(401, { "content-length": "0", connection: "close" }).end(() => socket.destroy());
      return;
    }
    underWay++;
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    serve(request, response)
      .catch((error: unknown) => {
        // The caller's going away is his business; anything else is a bug of ours that he should see.
        if (response.headersSent || isGone(response)) response.destroy();
        else response.writeHead(500, { "content-type": "text/plain" }).end(String(error));
      })
      .finally(() => {
        if (--underWay === 0) idle();
      });
  };

  const server: Server =
    tls === undefined
      ? createHttpServer(onRequest)
      : createHttpsServer({ ...tls, rejectUnauthorized: tls.requestCert === true }, onRequest);
  server.keepAliveTimeout = options.idleTimeoutMs;
  // Node adds a second of its own to the timeout otherwise.
  server.keepAliveTimeoutBuffer = 0;
  boundConnections(server);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
  const address = server.address();
  const boundPort = typeof address === "object" && address !== null ? address.port : port;
  const hostPart = host.includes(":") ? `[${host}]` : host;
  return {
    origin: `${tls === undefined ? "http" : "https"}://${hostPart}:${boundPort}`,
    async close() {
      if (closing.signal.aborted) return;
      closing.abort(new Error("The coordinator is closed"));
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      if (underWay > 0) await new Promise<void>((resolve) => (idle = resolve));
    },
  };
}

async function sendReply(request: IncomingMessage, response: ServerResponse, reply: Reply): Promise<void> {
  const { status, headers = {}, body = "" } = reply;
  if (reply.hangUp === true || isGone(response)) {
    response.socket?.destroy();
    return;
  }
  if (typeof body !== "string" && !(body instanceof Uint8Array)) {
    response.writeHead(status, headers);
    // A reader that goes away in the middle is no fault of ours.
    await pipeline(body, response).catch(() => response.destroy());
    return;
  }
  const withLength =
    status === 204 || status === 304 ? headers : { ...headers, "content-length": String(Buffer.byteLength(body)) };
  const linger = reply.lingerBytes ?? Number.POSITIVE_INFINITY;
  if (!request.readableEnded) discardRest(request, linger);
  await new Promise<void>((resolve) => {
    response.once("close", resolve);
    response.writeHead(status, withLength).end(body, resolve);
  });
}

/** Read on to the end of a body nobody wants; beyond `limitBytes` the connection is closed in the caller's face. */
function discardRest(request: IncomingMessage, limitBytes: number): void {
  let seen = 0;
  request.on("data", (chunk: Buffer) => {
    seen += chunk.length;
    if (seen > limitBytes) request.socket.destroy();
  });
  request.resume();
}

function headersOf(raw: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = Object.create(null);
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = (raw[index] ?? "").toLowerCase();
    const value = raw[index + 1] ?? "";
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`;
  }
  return headers;
}

/** A header that came exactly once. */
export function singleHeader(raw: readonly string[], name: string): string | undefined {
  const values = raw.filter((_, index) => index % 2 === 1 && raw[index - 1]?.toLowerCase() === name);
  return values.length === 1 ? values[0] : undefined;
}

function lowerCase(headers: Readonly<Record<string, string>> = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

function isGone(response: ServerResponse): boolean {
  return response.destroyed || response.socket?.destroyed === true;
}
