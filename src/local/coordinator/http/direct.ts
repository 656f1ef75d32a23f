import type { Readable } from "node:stream";
import { nowMs } from "../channel.ts";
import { type BodyEnd, type BodyLimits, readBody } from "./body.ts";
import { type Call, singleHeader } from "./http.ts";
import type { Recorder } from "./recorder.ts";
import type { Reply } from "./reply.ts";
import { routeOf } from "./routes.ts";

/** A request from this process itself. */
export interface DirectRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  /** Name, value, name, value. */
  readonly headers: readonly string[];
  readonly body: Uint8Array | Readable | undefined;
}

export interface DirectDoor {
  /** Rejects with what the handler or the body threw; fires the call's signal when `signal` does. */
  answer(request: DirectRequest, signal: AbortSignal): Promise<Reply>;
  /** Ends held requests. */
  close(): void;
}

/** The way to the handlers for callers of this process: no socket, and no text that is written only to be read again. */
export function openDirectDoor(
  handle: (call: Call) => Promise<Reply>,
  { recorder, pathPrefix }: { readonly recorder: Recorder; readonly pathPrefix: string },
): DirectDoor {
  const closing = new AbortController();
  return {
    async answer({ method, path, headers, body }, signal) {
      const url = new URL(path, "http://local");
      const route = routeOf(method, url.pathname, pathPrefix);
      const { endpoint, id } = route;
      const recording = recorder.begin({
        method,
        path,
        endpoint,
        jobId: id,
        headers: {},
        rawHeaders: headers,
        connection: 0,
        arrivedAt: nowMs(),
      });
      try {
        const reply = await handle({
          ...route,
          method,
          path,
          query: url.searchParams,
          header: (name) => singleHeader(headers, name),
          signal: AbortSignal.any([signal, closing.signal]),
          closing: closing.signal,
          request: recording.entry,
          held: recording.held,
          body: async (limits, onChunk) => {
            const end = await readDirect(body, limits, (chunk) => {
              recording.chunk(chunk);
              return onChunk(chunk);
            });
            if (end === "complete") recording.received();
            return end;
          },
        });
        recording.answered(reply.status, reply.headers ?? {});
        return reply;
      } finally {
        recording.ended();
      }
    },
    close: () => closing.abort(new Error("The coordinator is closed")),
  };
}

async function readDirect(
  body: DirectRequest["body"],
  limits: BodyLimits,
  onChunk: (chunk: Buffer) => void | Promise<void>,
): Promise<BodyEnd> {
  if (body === undefined) return "complete";
  if (!(body instanceof Uint8Array)) return await readBody(body, limits, onChunk);
  if (body.length > limits.limitBytes) return "too_large";
  await onChunk(Buffer.from(body.buffer, body.byteOffset, body.length));
  return "complete";
}
