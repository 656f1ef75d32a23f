import { Readable } from "node:stream";
import { WebSocket } from "ws";
import { z } from "zod";
import { describeError } from "../../../src/errors.ts";
import { tidyAfter } from "../../../src/files/tidy.ts";
import type { Login } from "../access/login.ts";
import type { Api } from "./client.ts";
import { agentFor, tlsOf } from "./http.ts";
import { ApiFailure, failureOf } from "./status.ts";

/** A program to start in a container of a pod. */
export interface ExecRequest {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly argv: readonly string[];
  readonly stdin: boolean;
  /** On a pseudo-terminal: what it shows is its stdout. */
  readonly tty?: boolean;
}

/** What the cluster says about a program's end. It proves nothing: a kubelet that is shutting down says `Success`. */
export type ExecEnd =
  | { readonly kind: "status"; readonly code: number }
  /** The program was not started, or the cluster lost it: its words. */
  | { readonly kind: "failure"; readonly said: string }
  /** The connection ended without any statement. */
  | { readonly kind: "cut"; readonly said: string };

export interface ExecChannel {
  /** Has back-pressure; it ends with the channel, for whatever reason. */
  readonly stdout: Readable;
  /** The end of what has come on stderr so far. */
  stderr(): string;
  /** The listener is called for each piece of stderr as it comes. */
  onStderr(listener: () => void): void;
  /** Resolves once the program takes more, or the channel has ended. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends stdin. */
  endInput(): void;
  readonly ended: Promise<ExecEnd>;
  /** Milliseconds in which nothing came although somebody would have taken it. */
  idleMs(): number;
  close(): void;
}

/** The protocol of Kubernetes 1.30 and later, the first one in which the end of stdin can be said. */
const PROTOCOL = "v5.channel.k8s.io";
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const STATUS = 3;
const CLOSE = 255;

const HANDSHAKE_MS = 30_000;
const PING_MS = 10_000;
/** If the other side is silent for this long, the connection counts as broken, whatever TCP says. */
const SILENCE_MS = 60_000;
const PIECE_BYTES = 32 * 1024;
/** Most bytes that may be written and have not left yet. */
const MOST_WAITING_BYTES = 1024 * 1024;
const STDERR_BYTES = 16 * 1024;
const READ_AHEAD_BYTES = 256 * 1024;
/** Each byte is copied into this many buffers, one after the other: of TCP, of TLS and of the WebSocket. */
const PASSES = 3;
/** Memory that opening a channel takes: a handshake of TLS and one of the WebSocket. */
const OPENING_BYTES = 512 * 1024;

const statusSchema = z.object({
  status: z.string().optional(),
  reason: z.string().optional(),
  message: z.string().optional(),
  details: z
    .object({ causes: z.array(z.object({ reason: z.string().optional(), message: z.string().optional() })).nullish() })
    .nullish(),
});

function endOf(text: string): ExecEnd {
  let status: z.output<typeof statusSchema>;
  try {
    status = statusSchema.parse(JSON.parse(text));
  } catch {
    return { kind: "cut", said: "the cluster's last word is none that is known" };
  }
  if (status.status === "Success") return { kind: "status", code: 0 };
  const code = status.details?.causes?.find(({ reason }) => reason === "ExitCode")?.message ?? "";
  if (status.reason === "NonZeroExitCode" && /^\d{1,3}$/.test(code)) return { kind: "status", code: Number(code) };
  return { kind: "failure", said: status.message ?? "no reason given" };
}

/** @throws {ApiFailure} the API server does not open the channel */
export async function openExec(api: Api, request: ExecRequest, signal: AbortSignal): Promise<ExecChannel> {
  let refused: Login | null = null;
  for (;;) {
    const login: Login = await api.login(refused, signal);
    try {
      return await connect(api, request, login, signal);
    } catch (error) {
      if (!(error instanceof ApiFailure) || error.status !== 401 || refused !== null) throw error;
      refused = login;
    }
  }
}

function urlOf({ access }: Api, { namespace, pod, container, argv, stdin, tty = false }: ExecRequest): string {
  const query = new URLSearchParams({
    container,
    stdout: "true",
    stderr: String(!tty),
    stdin: String(stdin),
    tty: String(tty),
  });
  for (const word of argv) query.append("command", word);
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/exec`;
  return `${access.server.replace(/^http/, "ws")}${path}?${query}`;
}

async function connect(api: Api, request: ExecRequest, login: Login, signal: AbortSignal): Promise<ExecChannel> {
  signal.throwIfAborted();
  tidyAfter(OPENING_BYTES);
  const { access } = api;
  const what = `run a program in the container "${request.container}" of the pod ${request.pod}`;
  const socket = new WebSocket(urlOf(api, request), [PROTOCOL], {
    headers: { ...login.headers },
    ...tlsOf(access, login),
    // Each channel opens its own connection.
    ...(access.proxy === undefined ? {} : { agent: agentFor(access, {}) }),
    perMessageDeflate: false,
    handshakeTimeout: HANDSHAKE_MS,
    maxPayload: 64 * 1024 * 1024,
    skipUTF8Validation: true,
  });
  socket.binaryType = "nodebuffer";
  const channel = channelOver(socket);
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => settle(signal.reason);
    const settle = (error: unknown): void => {
      signal.removeEventListener("abort", onAbort);
      if (error === null) resolve();
      else {
        reject(error);
        channel.close();
      }
    };
    signal.addEventListener("abort", onAbort, { once: true });
    socket.once("open", () => settle(null));
    socket.once("unexpected-response", (_asked, answer) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      answer.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes <= 64 * 1024) chunks.push(chunk);
      });
      const finish = (): void => {
        const body = Buffer.concat(chunks);
        const status = answer.statusCode ?? 0;
        // Client and server have no protocol in common; the server says so without a body.
        if (status === 403 && body.length === 0) {
          settle(
            new ApiFailure(
              `Cannot ${what}: the API server does not speak ${PROTOCOL}, which Kubernetes has since 1.30`,
              {
                status,
              },
            ),
          );
        } else settle(failureOf(what, access.server, status, body, answer.headers["retry-after"]));
      };
      answer.once("end", finish).once("error", finish);
    });
    socket.once("error", (cause) => {
      settle(new ApiFailure(`Cannot ${what}: ${describeError(cause)}`, { status: 0, cause }));
    });
    socket.once("close", () => settle(new ApiFailure(`Cannot ${what}: the connection was closed`, { status: 0 })));
  });
  return channel;
}

function channelOver(socket: WebSocket): ExecChannel {
  const { promise: ended, resolve } = Promise.withResolvers<ExecEnd>();
  const listeners: (() => void)[] = [];
  let stderr = Buffer.alloc(0);
  let status: ExecEnd | null = null;
  let trouble = "";
  let heardAt = performance.now();
  let waiting = false;

  const stdout = new Readable({
    highWaterMark: READ_AHEAD_BYTES,
    read: () => {
      if (!waiting) return;
      waiting = false;
      heardAt = performance.now();
      socket.resume();
    },
    destroy: (error, done) => {
      socket.terminate();
      done(error);
    },
  });
  stdout.on("error", () => {});

  const pinging = setInterval(() => {
    if (waiting) return;
    if (performance.now() - Math.max(heardAt, pongAt) > SILENCE_MS) {
      trouble = `nothing was heard of it for ${SILENCE_MS / 1000} s`;
      socket.terminate();
    } else if (socket.readyState === WebSocket.OPEN) socket.ping();
  }, PING_MS);

  let pongAt = heardAt;
  socket.on("pong", () => {
    pongAt = performance.now();
  });
  socket.on("message", (data, isBinary) => {
    heardAt = performance.now();
    if (!Buffer.isBuffer(data) || !isBinary || data.length === 0) return;
    tidyAfter(PASSES * data.length);
    const piece = data.subarray(1);
    if (data[0] === STDOUT) {
      if (piece.length > 0 && !stdout.push(piece)) {
        waiting = true;
        socket.pause();
      }
    } else if (data[0] === STDERR) {
      stderr = Buffer.concat([stderr, piece]).subarray(-STDERR_BYTES);
      for (const listener of listeners) listener();
    } else if (data[0] === STATUS) {
      status = endOf(piece.toString("utf8"));
      // No data follows, and some servers wait for the client to say so.
      socket.close(1000);
    }
  });
  socket.on("error", (error) => {
    trouble = describeError(error);
  });
  socket.on("close", (code) => {
    clearInterval(pinging);
    stdout.push(null);
    resolve(status ?? { kind: "cut", said: trouble || `it was closed (${code})` });
  });

  const closed = (): boolean => socket.readyState !== WebSocket.OPEN;
  const send = (bytes: Uint8Array): Promise<void> =>
    new Promise((sent) => {
      if (closed()) sent();
      else socket.send(bytes, { binary: true }, () => sent());
    });
  return {
    stdout,
    stderr: () => stderr.toString(),
    onStderr: (listener) => void listeners.push(listener),
    write: async (bytes) => {
      for (let at = 0; at < bytes.length && !closed(); at += PIECE_BYTES) {
        const piece = bytes.subarray(at, at + PIECE_BYTES);
        const framed = Buffer.allocUnsafe(piece.length + 1);
        framed[0] = STDIN;
        framed.set(piece, 1);
        tidyAfter(PASSES * framed.length);
        const sent = send(framed);
        if (socket.bufferedAmount > MOST_WAITING_BYTES) await sent;
      }
    },
    endInput: () => void send(Uint8Array.of(CLOSE, STDIN)),
    ended,
    idleMs: () => (waiting ? 0 : performance.now() - heardAt),
    close: () => {
      clearInterval(pinging);
      socket.terminate();
    },
  };
}
