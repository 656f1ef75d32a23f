import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { boundConnections } from "../bound-connections.ts";
import { gitEnvironment } from "./git.ts";

/** Repositories of this machine that jobs can fetch from over HTTP, wherever they run. */
export interface GitServer {
  /** With the credentials that it asks for: `http://exec:…@127.0.0.1:4711/local/widget.git`. */
  urlOf(path: string): string;
  /** Ends everything at once. Safe more than once. */
  close(): Promise<void>;
}

export interface GitServerOptions {
  /** Where to listen: `127.0.0.1`. */
  readonly listenHost: string;
  /** What jobs call this machine; differs from `listenHost` where they are in containers. */
  readonly publicHost: string;
  /** Path below the server, without slashes around it → directory of the repository. */
  readonly repositories: ReadonlyMap<string, string>;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Jobs may ask for the commit that they run for by its name, also where it is on no branch. */
const UPLOAD_PACK = [
  "-c",
  "uploadpack.allowAnySHA1InWant=true",
  "-c",
  "uploadpack.allowFilter=true",
  "-c",
  "uploadpack.hideRefs=",
  "-c",
  "core.hooksPath=/dev/null",
  "upload-pack",
  "--stateless-rpc",
  "--strict",
];

/**
 * git's HTTP protocol, reading only (versions 0 to 2): `git upload-pack` does the work. Everybody on this machine or in its
 * networks could call, so a password is asked for that only the jobs' address has.
 * Rejects with what the system said about the address.
 */
export async function startGitServer(options: GitServerOptions): Promise<GitServer> {
  const { listenHost, publicHost, repositories, env } = options;
  const password = randomBytes(18).toString("base64url");
  const expected = Buffer.from(`Basic ${Buffer.from(`exec:${password}`).toString("base64")}`);
  const children = new Set<ChildProcess>();
  let closed = false;

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    /** Nothing of a body is read. */
    const refuse = (status: number, headers: Record<string, string> = {}): void => {
      const { socket } = request;
      response
        .writeHead(status, { "content-length": "0", connection: "close", ...headers })
        .end(() => socket.destroy());
    };
    const given = Buffer.from(request.headers.authorization ?? "");
    if (given.length !== expected.length || !timingSafeEqual(given, expected))
      return refuse(401, { "www-authenticate": 'Basic realm="sources"' });
    const url = new URL(request.url ?? "/", "http://local");
    const [, path = "", service = ""] = /^\/(.+)\/(info\/refs|git-upload-pack)$/.exec(decodePath(url.pathname)) ?? [];
    const dir = repositories.get(path);
    const asked = service === "info/refs" ? url.searchParams.get("service") : service;
    if (dir === undefined || asked !== "git-upload-pack") return refuse(dir === undefined ? 404 : 403);
    const advertises = service === "info/refs";
    if (request.method !== (advertises ? "GET" : "POST")) return refuse(405);
    if (closed) return refuse(503);

    const protocol = request.headers["git-protocol"];
    const child = spawn("git", [...UPLOAD_PACK, ...(advertises ? ["--advertise-refs"] : []), dir], {
      env: {
        ...gitEnvironment(env),
        ...(typeof protocol === "string" && /^[\w=:.-]{1,100}$/.test(protocol) ? { GIT_PROTOCOL: protocol } : {}),
      },
      stdio: ["pipe", "pipe", "ignore"],
    });
    children.add(child);
    child.once("close", () => children.delete(child));
    const started = new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    // A caller that goes away takes his child with him.
    response.once("close", () => child.kill());
    await started;
    const type = advertises ? "advertisement" : "result";
    response.writeHead(200, {
      "content-type": `application/x-git-upload-pack-${type}`,
      "cache-control": "no-cache",
    });
    if (advertises && !/(?:^|:)version=2(?:$|:)/.test(typeof protocol === "string" ? protocol : ""))
      response.write("001e# service=git-upload-pack\n0000");
    const zipped = /\bgzip\b/.test(request.headers["content-encoding"] ?? "");
    const received = zipped ? pipeline(request, createGunzip(), child.stdin) : pipeline(request, child.stdin);
    // git ends as soon as it has read enough; what matters is what it answers.
    received.catch(() => undefined);
    await pipeline(child.stdout, response);
  };

  const server = createServer((request, response) => {
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    serve(request, response).catch(() => {
      if (response.headersSent) response.destroy();
      else response.writeHead(500, { "content-length": "0" }).end();
    });
  });
  boundConnections(server);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, listenHost, () => {
      server.off("error", reject);
      resolve();
    });
  });
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const host = publicHost.includes(":") ? `[${publicHost}]` : publicHost;
  return {
    urlOf: (path) => `http://exec:${password}@${host}:${port}/${path.split("/").map(encodeURIComponent).join("/")}`,
    async close() {
      if (closed) return;
      closed = true;
      const ended = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const child of children) child.kill();
      server.closeAllConnections();
      await ended;
    },
  };
}

function decodePath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return "";
  }
}
