import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { pause } from "../../../time.ts";
import type { Reply } from "../http/reply.ts";
import type { Endpoint } from "../http/routes.ts";

/** What an interceptor gets to see of a request: its head. */
export interface InterceptedRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly endpoint: Endpoint;
  readonly jobId: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** How many requests there were of this endpoint and, where it has one, of this job, with this one; from 1. */
  readonly count: number;
}

/** Asked once for each request, before its body is read. */
export type Intercept = (request: InterceptedRequest) => Fault | undefined;

interface FaultTiming {
  /** Wait before anything is done. */
  readonly delayMs?: number;
  /**
   * The coordinator deals with the request first, and what it would have answered is thrown away: the job is assigned,
   * the patch is stored, and the caller does not hear of it. Default: it never sees the request. A `status` of success
   * takes the place of an answer of success only.
   */
  readonly handled?: boolean;
}

/** Something that goes wrong on the way. */
export type Fault =
  /** Nothing but the delay: the request is dealt with as ever. */
  | { readonly kind: "delay"; readonly delayMs: number }
  /** Another answer. */
  | (FaultTiming & {
      readonly kind: "status";
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string | Uint8Array;
    })
  /** The connection closes without an answer. */
  | (FaultTiming & { readonly kind: "drop" })
  /** The connection stays and nothing comes, until the caller gives up or the coordinator is closed. */
  | (FaultTiming & { readonly kind: "silence" })
  /** The true answer, its body in pieces of `chunkBytes` (default 1), each `intervalMs` after the last. */
  | { readonly kind: "slow"; readonly delayMs?: number; readonly chunkBytes?: number; readonly intervalMs: number }
  /** The head of the true answer, which promises all of the body, its first `bytes` bytes, then the end. */
  | { readonly kind: "truncate"; readonly delayMs?: number; readonly bytes: number }
  /** Headers, or a body of `status` (default 200), that go on until the caller has had enough. */
  | (FaultTiming & { readonly kind: "endless"; readonly part: "headers" | "body"; readonly status?: number })
  /** These bytes and nothing else on the connection, then its end. */
  | (FaultTiming & { readonly kind: "raw"; readonly bytes: string | Uint8Array });

export interface FaultTarget {
  readonly response: ServerResponse;
  /** Deal with the request as ever; reads its body. */
  handle(): Promise<Reply>;
  send(reply: Reply): Promise<void>;
  readonly signal: AbortSignal;
}

/** Answer a request, or fail to, in the way that `fault` says. */
export async function applyFault(fault: Fault, { response, handle, send, signal }: FaultTarget): Promise<void> {
  if (fault.delayMs !== undefined) await pause(fault.delayMs, signal);
  switch (fault.kind) {
    case "delay":
      return await send(await handle());
    case "slow":
      return await sendSlowly(response, await handle(), fault, signal);
    case "truncate":
      return await sendTruncated(response, await handle(), fault.bytes);
  }
  if (fault.handled === true) {
    const reply = await handle();
    // A yes stands in for a yes only: where nothing was kept it would be a lie.
    if (fault.kind === "status" && fault.status < 300 && reply.status >= 300) return await send(reply);
  }
  switch (fault.kind) {
    case "status":
      return await send({ status: fault.status, headers: fault.headers ?? {}, body: fault.body ?? "" });
    case "drop":
      response.socket?.destroy();
      return;
    case "silence":
      return await pause(Number.POSITIVE_INFINITY, signal);
    case "endless":
      return await sendEndlessly(response, fault.part, fault.status ?? 200, signal);
    case "raw": {
      const { socket } = response;
      await new Promise<void>((resolve) => {
        if (socket === null) resolve();
        else socket.end(fault.bytes, () => resolve());
      });
      socket?.destroySoon();
      return;
    }
  }
}

async function sendEndlessly(
  response: ServerResponse,
  part: "headers" | "body",
  status: number,
  signal: AbortSignal,
): Promise<void> {
  const { socket } = response;
  if (socket === null) return;
  const head = `HTTP/1.1 ${status} Endless\r\ncontent-type: application/json\r\n`;
  const line = part === "headers" ? `x-more: ${"m".repeat(1000)}\r\n` : " ".repeat(65_536);
  socket.write(part === "headers" ? head : `${head}content-length: ${Number.MAX_SAFE_INTEGER}\r\n\r\n`);
  while (!signal.aborted && !socket.destroyed) if (!socket.write(line)) await drained(socket, signal);
  socket.destroy();
}

/** The socket takes more, or never will. */
async function drained(socket: Socket, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const onEnd = (): void => resolve();
  socket.once("drain", onEnd).once("close", onEnd);
  signal.addEventListener("abort", onEnd, { once: true });
  if (signal.aborted || socket.destroyed) resolve();
  await promise;
  socket.off("drain", onEnd).off("close", onEnd);
  signal.removeEventListener("abort", onEnd);
}

async function sendSlowly(
  response: ServerResponse,
  reply: Reply,
  { chunkBytes = 1, intervalMs }: { chunkBytes?: number; intervalMs: number },
  signal: AbortSignal,
): Promise<void> {
  const body = await wholeBody(reply);
  response.writeHead(reply.status, { ...reply.headers, "content-length": body.length });
  response.flushHeaders();
  for (let sent = 0; sent < body.length; sent += chunkBytes) {
    await pause(intervalMs, signal);
    response.write(body.subarray(sent, sent + chunkBytes));
  }
  response.end();
}

async function sendTruncated(response: ServerResponse, reply: Reply, bytes: number): Promise<void> {
  const body = await wholeBody(reply);
  response.writeHead(reply.status, { ...reply.headers, "content-length": body.length });
  response.flushHeaders();
  await new Promise<void>((resolve) => {
    response.write(body.subarray(0, bytes), () => resolve());
  });
  response.socket?.destroySoon();
}

async function wholeBody({ body }: Reply): Promise<Buffer> {
  if (body === undefined) return Buffer.alloc(0);
  if (typeof body === "string" || body instanceof Uint8Array) return Buffer.from(body);
  const pieces: Buffer[] = [];
  for await (const piece of body) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}
