import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { ConfigError, describeError } from "../errors.ts";
import { ADDRESS_FORMS, type ListenAddress, readListenAddress } from "../serving/address.ts";
import { createCrowd } from "../serving/crowd.ts";
import { type HttpReply, type HttpRequest, onRequest, sendReply } from "../serving/http.ts";
import { isOwnCaller } from "./caller.ts";
import { DEBUG_PATHS, type DebugSources, debugReply } from "./debug.ts";

const DEFAULT_PORT = 9252;
/** Connections that have not asked yet. */
const MOST_WAITING = 256;
/** Connections that have asked and not yet taken their answer. */
const MOST_ANSWERED = 64;
/** From the connection to the end of the request, and then to the answer's last byte. */
const REQUEST_LIMIT_MS = 5000;
const ANSWER_LIMIT_MS = 10_000;

const PATHS: ReadonlySet<string> = new Set([
  "/metrics",
  "/health",
  "/health/ready",
  "/healthz",
  "/readyz",
  ...DEBUG_PATHS,
]);

/** What the server answers with. */
export interface ServedMetrics {
  readonly contentType: string;
  render(): Promise<string>;
  /** `/health/ready`: is the runner working on its configuration, neither starting nor stopping? */
  ready(): boolean;
  /** For `/readyz`: each entry, whether it takes jobs, and otherwise why not. */
  entries(): readonly { readonly name: string; readonly able: boolean; readonly reason: string }[];
  readonly debug: DebugSources;
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

/** @throws {ConfigError} the text is no address */
export function parseListenAddress(text: string): ListenAddress {
  const address = readListenAddress(text, DEFAULT_PORT);
  if (address !== null) return address;
  throw new ConfigError(`The metrics address "${text}" cannot be used: ${ADDRESS_FORMS}, such as "127.0.0.1:9252"`);
}

/**
 * `/metrics`, `/healthz` and `/readyz` (and GitLab Runner's `/health`, `/health/ready`, and to programs of this machine that work
 * for root or the runner's account `/debug/jobs/list`, `/debug/process/state`) for GET and HEAD, and nothing else. Slow and many clients cost little and are cut off; one look at the metrics serves all who ask meanwhile.
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
  const waiting = createCrowd(MOST_WAITING);
  const answered = createCrowd(MOST_ANSWERED);
  let rendering: Promise<string> | undefined;
  const render = (): Promise<string> => {
    rendering ??= served.render().finally(() => {
      rendering = undefined;
    });
    return rendering;
  };

  // A client may close its side once it has asked.
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    waiting.add(socket);
    let limit = setTimeout(() => socket.destroy(), REQUEST_LIMIT_MS);
    socket.on("error", () => socket.destroy());
    socket.on("end", () => waiting.has(socket) && socket.destroy());
    socket.on("close", () => {
      clearTimeout(limit);
      waiting.remove(socket);
      answered.remove(socket);
    });
    onRequest(socket, (asked) => {
      clearTimeout(limit);
      limit = setTimeout(() => socket.destroy(), ANSWER_LIMIT_MS);
      waiting.remove(socket);
      answered.add(socket);
      void answer(asked, socket, { render, served })
        .catch((error): HttpReply => ({ status: 500, body: `${describeError(error)}\n` }))
        .then((reply) => sendReply(socket, reply, "method" in asked && asked.method === "HEAD"));
    });
  });

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
      waiting.disperse();
      answered.disperse();
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
  asked: HttpRequest | HttpReply,
  from: Socket,
  { render, served }: { readonly render: () => Promise<string>; readonly served: ServedMetrics },
): Promise<HttpReply> {
  if ("status" in asked) return asked;
  const { method, path } = asked;
  if (!PATHS.has(path)) return { status: 404, body: "not found\n" };
  if (method !== "GET" && method !== "HEAD") {
    return { status: 405, headers: { Allow: "GET, HEAD" }, body: "only GET and HEAD\n" };
  }
  if (path === "/metrics") return { status: 200, type: served.contentType, body: await render() };
  if (path === "/health" || path === "/healthz") return { status: 200, body: "alive\n" };
  if (path === "/readyz") return readiness(served);
  if (DEBUG_PATHS.has(path)) {
    if (!served.debug.open() && !(await isOwnCaller(from))) {
      return { status: 403, body: "only for root and the runner's own account on this machine: see debug_endpoints\n" };
    }
    return debugReply(path, served.debug, Date.now());
  }
  return served.ready() ? { status: 200, body: "ready\n" } : { status: 503, body: "not ready\n" };
}

/** Ready where at least one entry takes jobs. Each entry has a line, also then. */
function readiness(served: ServedMetrics): HttpReply {
  if (!served.ready()) return { status: 503, body: "not ready: the runner starts or ends\n" };
  const entries = served.entries();
  const able = entries.filter((entry) => entry.able).length;
  const lines = entries.map(
    ({ name, able: is, reason }) => `${is ? "+" : "-"} ${name.replace(/[\x00-\x1f\x7f-\x9f]/g, "?")}: ${reason}`,
  );
  const first = able > 0 ? `ready: ${able} of ${entries.length} entries take jobs` : `not ready: no entry takes jobs`;
  return { status: able > 0 ? 200 : 503, body: `${[first, ...lines].join("\n")}\n` };
}
