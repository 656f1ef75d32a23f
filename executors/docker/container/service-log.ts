import type { Readable } from "node:stream";
import type { Engine } from "../engine/engine.ts";
import { createDemultiplexer } from "../engine/stream.ts";

const LONGEST_LOG_BYTES = 64 * 1024;
const LINES = 1000;
const LIMIT_MS = 10_000;

/**
 * The end of what a container wrote, at most 64 KiB, control characters taken out that could play tricks with a terminal.
 */
export async function containerLog(engine: Engine, id: string, signal: AbortSignal): Promise<string> {
  const stream = await engine.call(
    "read the log of a service",
    (_, abortSignal) => openLog(engine, id, `stdout=1&stderr=1&timestamps=1&tail=${LINES}`, abortSignal),
    signal,
    LIMIT_MS,
  );
  let held: Buffer = Buffer.alloc(0);
  const frames = createDemultiplexer((_, payload) => {
    held = Buffer.concat([held, payload]);
    if (held.length > 2 * LONGEST_LOG_BYTES) held = held.subarray(-LONGEST_LOG_BYTES);
  });
  for await (const chunk of stream) frames.write(Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk)));
  const cut = held.length > LONGEST_LOG_BYTES;
  const text = held.subarray(-LONGEST_LOG_BYTES).toString();
  const safe = text.replace(/[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]/g, "");
  return cut ? `…${safe}` : safe;
}

/** @param query of the engine's call */
export function openLog(engine: Engine, id: string, query: string, abortSignal: AbortSignal): Promise<Readable> {
  return new Promise((resolve, reject) => {
    engine.docker.modem.dial(
      {
        // Of a path with a query the library takes off the last character, where it has nothing to add.
        path: `/containers/${id}/logs?${query}&`,
        method: "GET",
        isStream: true,
        statusCodes: { 200: true, 404: "no such container", 500: "server error" },
        options: {},
        abortSignal,
      },
      (error, result) => {
        if (error) reject(error);
        else if (isReadable(result)) resolve(result);
        else reject(new Error("the log is no stream"));
      },
    );
  });
}

function isReadable(result: unknown): result is Readable {
  return typeof result === "object" && result !== null && Symbol.asyncIterator in result;
}
