/** Small HTTP and TCP servers for the tests of the client. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from "node:http";
import { createServer as createTlsServer, type ServerOptions } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Socket, type Server as TcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach } from "vitest";
import type { CoordinatorDeps } from "../../src/coordinator/calls.ts";
import { createConnections } from "../../src/coordinator/connection/connections.ts";
import { createIdentity } from "../../src/coordinator/identity.ts";
import type { Job, JobCredentials } from "../../src/job/job.ts";

const cleanUps: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

export function after(cleanUp: () => void | Promise<void>): void {
  cleanUps.push(cleanUp);
}

export function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), "alloy-coordinator-"));
  after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Starts listening and closes with the test. */
export async function listen(server: Server | TcpServer, host = "127.0.0.1"): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  after(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const address: AddressInfo | string | null = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly raw: readonly string[];
  readonly body: Buffer;
  readonly port: number | undefined;
}

export interface Site {
  readonly url: URL;
  readonly received: Received[];
}

export type Answerer = (request: Received, index: number) => Reply | Promise<Reply>;
export interface Reply {
  readonly status: number;
  readonly headers?: Record<string, string | string[]>;
  readonly body?: string | Buffer;
}

/** An HTTP server that answers what `answer` says and keeps what it was sent. */
export async function site(answer: Answerer, tls?: ServerOptions, host = "localhost"): Promise<Site> {
  const received: Received[] = [];
  const listener: RequestListener = (request, response) => {
    void (async () => {
      const entry = await readRequest(request);
      const { status, headers, body } = await answer(entry, received.push(entry) - 1);
      response.writeHead(status, headers).end(body);
    })().catch(() => response.destroy());
  };
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  const port = await listen(server);
  return { url: new URL(`${tls === undefined ? "http" : "https"}://${host}:${port}`), received };
}

async function readRequest(request: IncomingMessage): Promise<Received> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return {
    method: request.method ?? "",
    path: request.url ?? "",
    headers: request.headers,
    raw: request.rawHeaders,
    body: Buffer.concat(chunks),
    port: request.socket.remotePort,
  };
}

/** A server that hands each connection to the test as it is. */
export async function rawSite(onConnection: (socket: Socket, index: number) => void): Promise<URL> {
  let index = 0;
  const server = createTcpServer((socket) => onConnection(socket, index++));
  return new URL(`http://localhost:${await listen(server)}`);
}

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** Files made with openssl: an authority, and what it signs. */
export function createAuthority(dir: string, name = "authority") {
  mkdirSync(dir, { recursive: true });
  const path = (file: string): string => join(dir, file);
  const openssl = (...args: string[]): void => {
    execFileSync("openssl", args, { cwd: dir, stdio: "pipe" });
  };
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl(
    "req",
    "-x509",
    ...newKey,
    "-keyout",
    `${name}.key`,
    "-out",
    `${name}.crt`,
    "-days",
    "30",
    "-subj",
    `/CN=${name}`,
  );
  return {
    file: path(`${name}.crt`),
    /** @param valid `not_before` and `not_after`, as openssl writes them: `20200101000000Z` */
    sign(leaf: string, names: string, valid?: readonly [string, string]): Certificate {
      openssl(
        "req",
        "-new",
        ...newKey,
        "-keyout",
        `${leaf}.key`,
        "-out",
        `${leaf}.csr`,
        "-subj",
        `/CN=${leaf}`,
        "-addext",
        `subjectAltName=${names}`,
      );
      const dates = valid === undefined ? ["-days", "30"] : ["-not_before", valid[0], "-not_after", valid[1]];
      const common = ["-in", `${leaf}.csr`, "-out", `${leaf}.crt`, "-copy_extensions", "copy"];
      if (valid === undefined) {
        openssl("x509", "-req", ...common, "-CA", `${name}.crt`, "-CAkey", `${name}.key`, "-CAcreateserial", ...dates);
      } else signWithDates(dir, name, leaf, valid);
      return { cert: path(`${leaf}.crt`), key: path(`${leaf}.key`) };
    },
  };

  /** `openssl x509` cannot set dates before version 3.4, `openssl ca` can. */
  function signWithDates(
    directory: string,
    authority: string,
    leaf: string,
    [from, to]: readonly [string, string],
  ): void {
    const config = join(directory, "ca.conf");
    execFileSync(
      "sh",
      [
        "-c",
        `: > ${leaf}.index && printf '[ca]\\ndefault_ca=c\\n[c]\\ndatabase=${leaf}.index\\nnew_certs_dir=.\\nrand_serial=yes\\ndefault_md=sha256\\npolicy=p\\ncopy_extensions=copy\\nunique_subject=no\\n[p]\\ncommonName=supplied\\n' > ${config}`,
      ],
      { cwd: directory },
    );
    openssl(
      "ca",
      "-batch",
      "-config",
      config,
      "-in",
      `${leaf}.csr`,
      "-out",
      `${leaf}.crt`,
      "-cert",
      `${authority}.crt`,
      "-keyfile",
      `${authority}.key`,
      "-startdate",
      from,
      "-enddate",
      to,
      "-notext",
    );
  }
}

/** The dependencies of a client in tests; its connections end with the test. */
export function testDeps(
  more: Partial<CoordinatorDeps> & { environment?: Record<string, string> } = {},
): CoordinatorDeps {
  const { environment = {}, ...deps } = more;
  const connections = createConnections({ environment, checkFilesMs: 10 });
  after(() => connections.close());
  const identity = createIdentity({
    version: "2.0.0",
    revision: "1a2b3c4d",
    runtime: "node24.0.0",
    platform: "linux",
    arch: "x64",
  });
  return { connections, identity, ...deps };
}

export const noTls = { tlsCaFile: undefined, tlsCertFile: undefined, tlsKeyFile: undefined, certsDir: "/nonexistent" };

export const info = {
  executor: "shell",
  shell: "bash",
  features: { variables: true, image: false, services: false, shared: true },
};

export function credentials(dialect: Job["dialect"]): JobCredentials {
  return { id: "12", token: "job-token==", dialect };
}
