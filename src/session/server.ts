import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { createSecureContext, createServer, type TLSSocket } from "node:tls";
import type { SessionServerConfig } from "../config/config.ts";
import { ConfigError, describeError, Stop } from "../errors.ts";
import type { Log } from "../log.ts";
import { createCrowd } from "../serving/crowd.ts";
import { type HttpReply, type HttpRequest, onRequest, sendReply } from "../serving/http.ts";
import { deadline } from "../time.ts";
import { type Certificate, makeCertificate } from "./certificate.ts";
import type { SessionOffer } from "./contract.ts";
import { createSessions, type LiveSession } from "./sessions.ts";

export interface SessionServer {
  /** As coordinators are told it: `https://host:port`. */
  readonly origin: string;
  /** For one request for a job. */
  offer(): SessionOffer;
  close(): Promise<void>;
}

/** Connections at once; one more ends the oldest of whoever has the most. */
const MOST_CONNECTIONS = 256;
const REQUEST_LIMIT_MS = 10_000;
/** How long somebody waits for a job's place. */
const PATIENCE_MS = 60_000;

const unknown: HttpReply = { status: 404, body: "no such session\n" };

/**
 * Lets coordinators reach the terminals of jobs, over TLS, each by the secret that it was told.
 * @throws {ConfigError} the address cannot be had
 */
export async function openSessionServer(config: SessionServerConfig, log: Log): Promise<SessionServer> {
  const { listen, advertise } = config;
  const { certificate, key } = config.tls === null ? makeCertificate(advertise.host) : await given(config.tls);
  const crowd = createCrowd(MOST_CONNECTIONS);

  const server = createServer({
    cert: certificate,
    key,
    minVersion: "TLSv1.2",
    ALPNProtocols: ["http/1.1"],
    handshakeTimeout: REQUEST_LIMIT_MS,
  });
  server.on("connection", (socket: Socket) => {
    crowd.add(socket);
    socket.on("error", () => socket.destroy()).on("close", () => crowd.remove(socket));
  });
  server.on("tlsClientError", (_error, socket) => socket.destroy());

  const origin = originOf(advertise);
  const sessions = createSessions({ origin, certificate });

  const answer = async (socket: TLSSocket, asked: HttpRequest | HttpReply): Promise<HttpReply | null> => {
    if ("status" in asked) return asked;
    const [, id = "", rest = ""] = /^\/session\/([0-9a-f]{32})(\/.*)?$/.exec(asked.path) ?? [];
    const live = sessions.find(id);
    if (live === undefined) return unknown;
    if (!live.admits(asked.header("authorization") ?? ""))
      return { status: 401, body: "not with this authorization\n" };
    if (rest !== "/exec") return unknown;
    if (asked.method !== "GET" || asked.header("upgrade")?.toLowerCase() !== "websocket")
      return { status: 405, headers: { Allow: "GET" }, body: "a terminal is a WebSocket\n" };
    return await visit(live, socket, asked, log);
  };

  server.on("secureConnection", (socket) => {
    socket.setNoDelay(true);
    const limit = setTimeout(() => socket.destroy(), REQUEST_LIMIT_MS);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => clearTimeout(limit));
    onRequest(socket, (asked) => {
      clearTimeout(limit);
      answer(socket, asked)
        .then((reply) => {
          if (reply !== null) sendReply(socket, reply, false);
        })
        .catch((error: unknown) => {
          log.debug("a terminal broke off", { problem: describeError(error) });
          socket.destroy();
        });
    });
  });
  try {
    server.listen({ port: listen.port, ...(listen.host === undefined ? {} : { host: listen.host }) });
    await once(server, "listening");
  } catch (error) {
    throw new ConfigError(
      `Cannot serve terminals on ${listen.host ?? ""}:${listen.port}: ${describeError(error)}. Set another listen_address in [session_server]`,
      { cause: error },
    );
  }
  // From here on an error of the listener itself (out of descriptors while accepting) must not end the process.
  server.on("error", () => {});
  return {
    origin,
    offer: () => sessions.offer(),
    async close() {
      const closed = once(server, "close");
      server.close();
      crowd.disperse();
      await closed;
    },
  };
}

async function given({ certFile, keyFile }: NonNullable<SessionServerConfig["tls"]>): Promise<Certificate> {
  const readKey = async (name: string, path: string): Promise<string> =>
    await readFile(path, "utf8").catch((cause: unknown) => {
      throw new ConfigError(`Cannot read ${path} (${name} in [session_server]): ${describeError(cause)}`, { cause });
    });
  const certificate = await readKey("tls_cert_file", certFile);
  const key = await readKey("tls_key_file", keyFile);
  try {
    createSecureContext({ cert: certificate, key });
  } catch (cause) {
    throw new ConfigError(
      `${certFile} and ${keyFile} ([session_server]) are no certificate in PEM with its key: ${describeError(cause)}`,
      { cause },
    );
  }
  return { certificate, key };
}

/** From a good request to the end of the terminal, or to what is answered instead of one. */
async function visit(live: LiveSession, socket: TLSSocket, request: HttpRequest, log: Log): Promise<HttpReply | null> {
  const stay = live.enter();
  if (stay === null) return { status: 423, body: "somebody has this terminal\n" };
  const gone = new AbortController();
  socket.once("close", () => gone.abort(new Stop("canceled", "the connection was closed")));
  using wait = deadline(AbortSignal.any([gone.signal, live.over]), PATIENCE_MS, new Stop("timed_out", "no place yet"));
  try {
    const host = await live.host(wait.signal).catch(() => null);
    if (host === null) return { status: 503, body: "the job has no place yet, or is over\n" };
    const { upgrade } = await import("./upgrade.ts");
    const terminal = await host.open(wait.signal).catch((error: unknown) => {
      log.warn("a terminal cannot be opened", { problem: describeError(error) });
      return null;
    });
    if (terminal === null) return { status: 500, body: "the terminal cannot be opened; the runner's log says why\n" };
    try {
      stay.opened();
      await upgrade(socket, request, terminal, live.over);
    } finally {
      await terminal.close();
    }
    return null;
  } finally {
    stay.leave();
  }
}

function originOf({ host, port }: SessionServerConfig["advertise"]): string {
  return `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
