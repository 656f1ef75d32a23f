import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";

/** Runs git without the configuration of the account or the system. */
export function git(cwd: string, ...args: string[]): string {
  return execFileSync("git", args, {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env.PATH,
      HOME: "/nonexistent",
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_AUTHOR_NAME: "a",
      GIT_AUTHOR_EMAIL: "a@example.invalid",
      GIT_COMMITTER_NAME: "a",
      GIT_COMMITTER_EMAIL: "a@example.invalid",
      GIT_ALLOW_PROTOCOL: "file:http:https",
    },
  }).trim();
}

export interface TestRepository {
  readonly dir: string;
  readonly url: string;
  /** Writes the files and commits them; returns the commit's id. */
  commit(files: Readonly<Record<string, string>>, message?: string): string;
  git(...args: string[]): string;
}

/** A repository that can be fetched from, with one commit on `main`. */
export function createRepository(dir: string, { objectFormat = "sha1" } = {}): TestRepository {
  mkdirSync(dir, { recursive: true });
  git(dir, "init", "--quiet", "-b", "main", `--object-format=${objectFormat}`);
  git(dir, "config", "http.receivepack", "false");
  const repository: TestRepository = {
    dir,
    url: `file://${dir}`,
    commit(files, message = "change") {
      for (const [name, content] of Object.entries(files)) {
        mkdirSync(dirname(join(dir, name)), { recursive: true });
        writeFileSync(join(dir, name), content);
      }
      git(dir, "add", "--all");
      git(dir, "commit", "--quiet", "--allow-empty", "-m", message);
      return git(dir, "rev-parse", "HEAD");
    },
    git: (...args) => git(dir, ...args),
  };
  repository.commit({ "file.txt": "one\n" });
  return repository;
}

interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly authorization: string | undefined;
  readonly headers: IncomingMessage["headers"];
}

export interface GitServerOptions {
  /** `user:password` that a request needs; others get 401. */
  readonly credentials?: string;
  /** Answers instead of git; `true` means that it did. */
  intercept?(request: IncomingMessage, response: ServerResponse): boolean;
  readonly tls?: { readonly key: string; readonly cert: string };
  /** 0 is the old protocol, in which a client cannot ask for a commit by its id. */
  readonly protocol?: 0 | 2;
}

export interface GitServer {
  readonly origin: string;
  readonly port: number;
  readonly requests: readonly SeenRequest[];
  close(): Promise<void>;
}

/** Serves the repositories below `root` by `git http-backend`, and records the requests. */
export async function serveGit(root: string, options: GitServerOptions = {}): Promise<GitServer> {
  const requests: SeenRequest[] = [];
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    const { method = "", url = "", headers } = request;
    requests.push({ method, url, authorization: headers.authorization, headers });
    if (options.intercept?.(request, response)) return;
    const expected = options.credentials && `Basic ${Buffer.from(options.credentials).toString("base64")}`;
    if (expected !== undefined && headers.authorization !== expected) {
      response.writeHead(401, { "www-authenticate": 'Basic realm="git"' }).end("who are you?");
      return;
    }
    backend(root, options.protocol ?? 2, request, response);
  };
  const server = options.tls === undefined ? createServer(handle) : createTlsServer(options.tls, handle);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    origin: `${options.tls === undefined ? "http" : "https"}://127.0.0.1:${port}`,
    port,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function backend(root: string, protocol: 0 | 2, request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? "/", "http://localhost");
  const child = spawn("git", ["http-backend"], {
    stdio: ["pipe", "pipe", "inherit"],
    env: {
      PATH: process.env.PATH,
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: "1",
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "safe.directory",
      GIT_CONFIG_VALUE_0: "*",
      PATH_INFO: decodeURIComponent(url.pathname),
      QUERY_STRING: url.search.slice(1),
      REQUEST_METHOD: request.method,
      CONTENT_TYPE: request.headers["content-type"] ?? "",
      ...(request.headers["content-encoding"] === undefined
        ? {}
        : { HTTP_CONTENT_ENCODING: String(request.headers["content-encoding"]) }),
      GIT_PROTOCOL: protocol === 2 ? String(request.headers["git-protocol"] ?? "") : "",
    },
  });
  child.stdin.on("error", () => {});
  request.pipe(child.stdin);
  let head: Buffer | null = Buffer.alloc(0);
  child.stdout.on("data", (chunk: Buffer) => {
    if (head === null) {
      response.write(chunk);
      return;
    }
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    const lines = head.subarray(0, end).toString().split("\r\n");
    const body = head.subarray(end + 4);
    head = null;
    for (const line of lines) {
      const colon = line.indexOf(":");
      const name = line.slice(0, colon);
      const value = line.slice(colon + 1).trim();
      if (name.toLowerCase() === "status") response.statusCode = Number.parseInt(value, 10);
      else response.setHeader(name, value);
    }
    response.write(body);
  });
  child.stdout.on("end", () => response.end());
}

/** A certificate for 127.0.0.1 that is signed by its own key. */
export function selfSigned(dir: string): { key: string; cert: string } {
  const args = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1";
  const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
  execFileSync("openssl", [...args.split(" "), "-keyout", key, "-out", cert], { stdio: "ignore" });
  return { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
}
