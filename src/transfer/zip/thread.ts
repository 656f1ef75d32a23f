import { parentPort } from "node:worker_threads";
import { tidyAfter } from "../../files/tidy.ts";
import { isBatch, performBatch } from "./batch.ts";

/** What a thread of `threads.ts` does: one batch after the other. */
parentPort?.on("message", (batch: unknown) => {
  if (!isBatch(batch)) throw new TypeError("a thread was sent something that is no batch");
  const done = performBatch(batch);
  const moved = [done.bytes.buffer, done.numbers.buffer].filter((buffer) => buffer instanceof ArrayBuffer);
  tidyAfter(done.bytes.length);
  parentPort?.postMessage(done, moved);
});
