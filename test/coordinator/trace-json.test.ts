import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import type { StoredTrace } from "../../src/coordinator/contract.ts";
import { escapedLength, escapedStream } from "../../src/coordinator/payload/trace-json.ts";
import { never } from "../../src/time.ts";

function stored(...chunks: Buffer[]): StoredTrace {
  return { size: Buffer.concat(chunks).length, open: () => Readable.from(chunks) };
}

async function roundTrip(trace: StoredTrace): Promise<unknown> {
  const json = await text(escapedStream('{"trace":"', trace, '"}', never));
  expect(Buffer.byteLength(json)).toBe((await escapedLength(trace, never)) + '{"trace":""}'.length);
  return JSON.parse(json).trace;
}

const sample = 'plain "quoted" \\ back\\slash\r\n\x1b[31mred\x1b[0m\ttab \b\f\x01\x1f\x7f é € 😀 \u2028 </script>\n';

test("every split of a trace gives the same text", async () => {
  const bytes = Buffer.from(sample);
  for (let at = 0; at <= bytes.length; at++) {
    expect(await roundTrip(stored(bytes.subarray(0, at), bytes.subarray(at)))).toBe(sample);
  }
});

test("all ASCII characters and an empty trace survive", async () => {
  const ascii = String.fromCharCode(...Array.from({ length: 128 }, (_, code) => code));
  expect(await roundTrip(stored(Buffer.from(ascii)))).toBe(ascii);
  expect(await roundTrip(stored())).toBe("");
});

test("only what JSON asks for is escaped, and characters beyond ASCII keep their bytes", async () => {
  expect(await text(escapedStream("", stored(Buffer.from('<&>é"')), "", never))).toBe('<&>é\\"');
});

test("a chunk larger than a piece is whole", async () => {
  const large = sample.repeat(10_000);
  expect(await roundTrip(stored(Buffer.from(large)))).toBe(large);
});

test("a trace that cannot be read is an error of the stream", async () => {
  const broken: StoredTrace = {
    size: 1,
    open: () =>
      new Readable({
        read() {
          this.destroy(new Error("EIO"));
        },
      }),
  };
  await expect(escapedLength(broken, never)).rejects.toThrow("EIO");
  await expect(text(escapedStream("", broken, "", never))).rejects.toThrow("EIO");
});
