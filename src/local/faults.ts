import type { ServerResponse } from "node:http";
import { pause } from "../time.ts";
import type { Reply } from "./http.ts";
import type { Endpoint } from "./routes.ts";

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
   * the patch is stored, and the caller does not hear of it. Default: it never sees the request.
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
  if (fault.handled === true) await handle();
  switch (fault.kind) {
    case "status":
      return await send({ status: fault.status, headers: fault.headers ?? {}, body: fault.body ?? "" });
    case "drop":
      response.socket?.destroy();
      return;
    case "silence":
      return await pause(Number.POSITIVE_INFINITY, signal);
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
