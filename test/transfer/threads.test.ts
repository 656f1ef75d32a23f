import { inflateRawSync } from "node:zlib";
import { expect, test } from "vitest";
import type { Batch } from "../../src/transfer/zip/batch.ts";
import { inThread } from "../../src/transfer/zip/threads.ts";

const BYTES = 100_000;

function batchOf(letter: string): Batch {
  const bytes = Buffer.allocUnsafeSlow(BYTES).fill(letter);
  return { work: "deflate", level: "default", bytes, numbers: Uint32Array.of(0, BYTES) };
}

async function letterBehind(batch: Batch): Promise<string> {
  const { bytes, numbers } = await inThread(batch);
  return inflateRawSync(bytes.subarray(0, numbers[1])).toString("latin1", 0, 1);
}

test("a batch that cannot be handed over fails by itself, and nobody gets another one's answer", async () => {
  const gone = batchOf("x");
  const { buffer } = gone.bytes;
  if (buffer instanceof ArrayBuffer) structuredClone(buffer, { transfer: [buffer] });
  const batches = [batchOf("a"), gone, batchOf("b"), gone, batchOf("c"), batchOf("d"), batchOf("e")];
  const letters = await Promise.all(batches.map((batch) => letterBehind(batch).catch(() => "failed")));
  expect(letters).toEqual(["a", "failed", "b", "failed", "c", "d", "e"]);
});
