import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { ConfigError, describeError } from "./errors.ts";

const DEFAULT_PORT = 9252;
/** Connections at once; one more ends the oldest, so that idle strangers cannot shut the scraper out. */
const MOST_CONNECTIONS = 64;
/** From a request's first byte to its answer's last. */
const REQUEST_LIMIT_MS = 10_000;

export interface ListenAddress {
  /** `undefined`: all addresses of the machine. */
  readonly host: string | undefined;
  readonly port: number;
}

/** What the server answers with. */
export interface ServedMetrics {
  readonly contentType: string;
  render(): Promise<string>;
  /** `/health/ready`: is the runner working on its configuration, neither starting nor stopping? */
  ready(): boolean;
}

export interface MetricsServer {
  /** The address in use, as a URL. */
  readonly url: string;
  /**
   * Serves on `address` from now on; an empty one ends serving.
   * @throws {ConfigError} the address is busy or cannot be had; the old one stays in use
   */
  move(address: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * `:9252`, `localhost`, `10.0.0.1:9252`, `[::1]:9252`, `[::1]`; the port is 9252 where none is given.
 * @throws {ConfigError} the text is none of these
 */
export function parseListenAddress(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([^\s:/[\]]*))(?::(\d{1,5}))?$/.exec(text.trim());
  const port = match?.[3] === undefined ? DEFAULT_PORT : Number(match[3]);
  const host = match?.[1] ?? match?.[2];
  if (match === null || port > 65_535 || (host === "" && match[3] === undefined)) {
    throw new ConfigError(
      `The metrics address "${text}" cannot be used: expected ":port", "host", "host:port" or "[IPv6]:port", such as "127.0.0.1:9252"`,
    );
  }
  return { host: host === "" ? undefined : host, port };
}

/**
 * `/metrics`, `/health` and `/health/ready` for GET and HEAD, and nothing else. Slow and many clients cost little and are
 * cut off; one look at the metrics serves all who ask meanwhile.
 * @param address as in config.toml; empty serves nothing until `move`
 * @throws {ConfigError} the address cannot be read, or is in use
 */
export async function openMetricsServer(address: string, served: ServedMetrics): Promise<MetricsServer> {
  let current = address === "" ? null : await listen(parseListenAddress(address), served);
  let text = address;
  return {
    get url() {
      return current?.url ?? "";
    },
    async move(next) {
      if (next === text) return;
      const old = current;
      const oldText = text;
      if (next === "") {
        current = null;
        text = next;
        await old?.close();
        return;
      }
      const wanted = parseListenAddress(next);
      const clashes = oldText !== "" && wanted.port !== 0 && parseListenAddress(oldText).port === wanted.port;
      if (!clashes) {
        current = await listen(wanted, served);
        text = next;
        await old?.close();
        return;
      }
      // `:9252` and `127.0.0.1:9252` cannot be open side by side.
      await old?.close();
      try {
        current = await listen(wanted, served);
        text = next;
      } catch (error) {
        current = await listen(parseListenAddress(oldText), served).catch(() => null);
        if (current === null) text = "";
        throw error;
      }
    },
    close: async () => {
      await current?.close();
      current = null;
      text = "";
    },
  };
}

async function listen(
  { host, port }: ListenAddress,
  served: ServedMetrics,
): Promise<{ url: string; close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  let rendering: Promise<string> | undefined;
  const render = (): Promise<string> => {
    rendering ??= served.render().finally(() => {
      rendering = undefined;
    });
    return rendering;
  };

  const server: Server = createServer(
    {
      headersTimeout: REQUEST_LIMIT_MS / 2,
      requestTimeout: REQUEST_LIMIT_MS,
      connectionsCheckingInterval: 5000,
      keepAliveTimeout: 1000,
      maxHeaderSize: 8192,
    },
    (request, response) => {
      const limit = setTimeout(() => request.socket.destroy(), REQUEST_LIMIT_MS);
      response.on("close", () => clearTimeout(limit));
      answer(request, response, render, served).catch((error) => {
        if (response.headersSent) response.destroy();
        else send(request, response, 500, "text/plain; charset=utf-8", `${describeError(error)}\n`);
      });
    },
  );
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    if (sockets.size <= MOST_CONNECTIONS) return;
    for (const oldest of sockets) {
      sockets.delete(oldest);
      oldest.destroy();
      break;
    }
  });
  server.on("clientError", (_error, socket) => socket.destroy());

  try {
    server.listen(host === undefined ? { port } : { port, host });
    await once(server, "listening");
  } catch (error) {
    const busy = error instanceof Error && "code" in error && error.code === "EADDRINUSE";
    // Bun has no word of its own for a name that nobody knows.
    const why = busy
      ? "the address is in use (EADDRINUSE). Free it or set another listen_address"
      : `${await lookup(host ?? "localhost").then(() => describeError(error), describeError)}. Set another listen_address`;
    throw new ConfigError(`Cannot serve metrics on ${host ?? ""}:${port}: ${why}`);
  }
  // From here on an error of the listener itself (out of descriptors while accepting) must not end the process.
  server.on("error", () => {});
  return {
    url: urlOf(server.address()),
    close: async () => {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function urlOf(address: AddressInfo | string | null): string {
  if (address === null || typeof address === "string") return "";
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return `http://${host}:${address.port}`;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  render: () => Promise<string>,
  served: ServedMetrics,
): Promise<void> {
  const plain = "text/plain; charset=utf-8";
  const path = (request.url ?? "").split("?", 1)[0];
  const known = path === "/metrics" || path === "/health" || path === "/health/ready";
  if (!known) return send(request, response, 404, plain, "not found\n");
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    return send(request, response, 405, plain, "only GET and HEAD\n");
  }
  if (path === "/metrics") return send(request, response, 200, served.contentType, await render());
  if (path === "/health") return send(request, response, 200, plain, "alive\n");
  return served.ready()
    ? send(request, response, 200, plain, "ready\n")
    : send(request, response, 503, plain, "not ready\n");
}

/** Each answer ends its connection: scrapes are rare, and an idle connection would take one of few places. */
function send(request: IncomingMessage, response: ServerResponse, status: number, type: string, body: string): void {
  const bytes = Buffer.from(body);
  response.writeHead(status, {
    "content-type": type,
    "content-length": bytes.length,
    "cache-control": "no-store",
    connection: "close",
  });
  response.end(request.method === "HEAD" ? undefined : bytes);
}
