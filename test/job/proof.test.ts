import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { createProof, createProofFilter } from "../../src/job/life/stages/proof.ts";

function collector(): { output: Writable; text: () => string } {
  const chunks: Buffer[] = [];
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(Buffer.from(chunk));
      done();
    },
  });
  return { output, text: () => Buffer.concat(chunks).toString() };
}

async function sift(proof: string, chunks: readonly string[]): Promise<{ seen: boolean; text: string }> {
  const { output, text } = collector();
  const filter = createProofFilter(proof, output);
  for (const chunk of chunks) filter.input.write(chunk);
  await filter.close();
  return { seen: filter.seen, text: text() };
}

const proof = "aab-aaab";

test.each([
  [`${proof}\nrest\n`, true, "rest\n"],
  [`profile\n${proof}\r\nrest`, true, "profile\nrest"],
  [`no newline aaab-aab-aa${proof}\n\nrest`, true, "no newline aaab-aab-aa\nrest"],
  [`${proof}\n${proof}\n`, true, `${proof}\n`],
  [`${proof}`, true, ""],
  [`${proof}\r`, true, "\r"],
  [`${proof}glued`, true, "glued"],
  ["aab-aaa", false, "aab-aaa"],
  ["", false, ""],
])("%j is sifted alike however it is cut", async (text, seen, expected) => {
  for (let first = 0; first <= text.length; first++) {
    for (let second = first; second <= text.length; second++) {
      const chunks = [text.slice(0, first), text.slice(first, second), text.slice(second)];
      expect(await sift(proof, chunks)).toEqual({ seen, text: expected });
    }
  }
  expect(await sift(proof, [...text])).toEqual({ seen, text: expected });
});

test("a slow trace slows the script down, and all arrives", async () => {
  let written = 0;
  let most = 0;
  const output = new Writable({
    highWaterMark: 1024,
    write(chunk: Buffer, _encoding, done) {
      written += chunk.length;
      most = Math.max(most, output.writableLength);
      setImmediate(done);
    },
  });
  const filter = createProofFilter(proof, output);
  filter.input.write(`${proof}\n`);
  const chunk = Buffer.alloc(64 * 1024, "x");
  for (let i = 0; i < 200; i++) {
    if (!filter.input.write(chunk)) await new Promise<void>((resolve) => filter.input.once("drain", resolve));
  }
  await filter.close();
  expect(most).toBeLessThan(512 * 1024);
  expect(written).toBe(200 * chunk.length);
});

test("a trace that was destroyed holds nobody up, nor does a writer that comes too late", async () => {
  const output = new Writable({ highWaterMark: 1, write: () => {} });
  output.on("error", () => {});
  const filter = createProofFilter(proof, output);
  filter.input.write(`${proof}\nmuch`);
  filter.input.write("more");
  setImmediate(() => output.destroy());
  await filter.close();
  filter.input.write("late");
});

test("keeps the end of what the script printed, without what came before it", async () => {
  const { output } = collector();
  const filter = createProofFilter(proof, output, { tailBytes: 10 });
  filter.input.write(`profile\n${proof}\n`);
  for (let i = 0; i < 100; i++) filter.input.write(`${i},`);
  await filter.close();
  expect(filter.tail()).toBe(",97,98,99,");
  expect(createProof()).not.toBe(createProof());
});
