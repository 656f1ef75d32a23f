import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { type ClientRequest, createServer, type IncomingHttpHeaders, type RequestListener, request } from "node:http";
import { createServer as createTlsServer, type ServerOptions } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import S3rver from "@20minutes/s3rver";
import { after, listen } from "../coordinator/server.ts";

export const ACCESS_KEY = "S3RVER";
export const SECRET_KEY = "S3RVER";

export interface S3Request {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
}

export interface S3Server {
  /** `http://127.0.0.1:port`, or `https:` */
  readonly endpoint: URL;
  readonly requests: readonly S3Request[];
  /** Answers the next requests with these statuses, without looking at them. `null`: the connection ends. */
  fail(...answers: (number | null)[]): void;
  /** Asked about each request: an answer in place of the server's, or `undefined`. */
  intercept(answer: (request: S3Request) => { readonly status: number; readonly body?: string } | undefined): void;
  /** Sends only this many bytes of the next answer to a GET. */
  cut(bytes: number): void;
}

/** A server that checks signatures, with the bucket `caches`; closes with the test. */
export async function openS3(tls?: ServerOptions): Promise<S3Server> {
  const directory = mkdtempSync(join(tmpdir(), "alloy-s3-"));
  const server = new S3rver({
    address: "127.0.0.1",
    port: 0,
    silent: true,
    vhostBuckets: false,
    directory,
    configureBuckets: [{ name: "caches", configs: [] }],
  });
  const { port } = await server.run();
  const forwarded = new Set<ClientRequest>();
  after(async () => {
    for (const each of forwarded) each.destroy();
    await server.close();
    await rm(directory, { recursive: true, force: true });
  });
  const requests: S3Request[] = [];
  const failures: (number | null)[] = [];
  let cutAt: number | null = null;
  let interceptor: Parameters<S3Server["intercept"]>[0] = () => undefined;
  // A server in front of the real one, which records requests and can spoil answers.
  const pass: RequestListener = (incoming, outgoing) => {
    const seen: S3Request = {
      method: incoming.method ?? "",
      url: new URL(incoming.url ?? "", "http://127.0.0.1"),
      headers: incoming.headers,
    };
    requests.push(seen);
    const instead = interceptor(seen);
    if (instead !== undefined) {
      incoming.resume();
      incoming.on("end", () => outgoing.writeHead(instead.status).end(instead.body));
      return;
    }
    const failure = failures.shift();
    if (failure === null) {
      incoming.socket.destroy();
      return;
    }
    if (failure !== undefined) {
      incoming.resume();
      incoming.on("end", () => outgoing.writeHead(failure).end());
      return;
    }
    const { method, url, headers } = incoming;
    const forward = request({ host: "127.0.0.1", port, method, path: url, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      const limit = method === "GET" ? cutAt : null;
      if (limit === null) {
        answer.pipe(outgoing);
        return;
      }
      cutAt = null;
      answer.once("data", (chunk: Buffer) => {
        outgoing.write(chunk.subarray(0, limit), () => outgoing.destroy());
        answer.destroy();
      });
    });
    forwarded.add(forward);
    forward.on("close", () => forwarded.delete(forward));
    incoming.on("close", () => {
      if (!incoming.complete) forward.destroy();
    });
    forward.on("error", () => outgoing.destroy());
    incoming.pipe(forward);
  };
  const front = tls === undefined ? createServer(pass) : createTlsServer(tls, pass);
  const frontPort = await listen(front);
  return {
    endpoint: new URL(`${tls === undefined ? "http" : "https"}://127.0.0.1:${frontPort}`),
    requests,
    fail: (...answers) => void failures.push(...answers),
    intercept: (answer) => {
      interceptor = answer;
    },
    cut: (bytes) => {
      cutAt = bytes;
    },
  };
}
