import { describe, expect, it } from "vitest";
import { characterBoundary, completeLength, createTextFilter, soundLength } from "../../src/trace/mask/utf8.ts";

function filter(...pieces: Uint8Array[]): string {
  const text = createTextFilter();
  const parts = pieces.map((piece) => Buffer.from(text.push(Buffer.from(piece))));
  return Buffer.concat([...parts, text.flush()]).toString("latin1");
}

function decoded(bytes: Uint8Array): string {
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes).replaceAll("\0", "\ufffd");
  return Buffer.from(text).toString("latin1");
}

const LEADS = [
  0x00, 0x41, 0x7f, 0x80, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xfe,
  0xff,
];
const NEXT = [0x00, 0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc2, 0xe2, 0xf0, 0xff];

describe("text filter", () => {
  it("does with every kind of sequence what a WHATWG decoder does", () => {
    for (const a of LEADS) {
      for (const b of NEXT) {
        for (const c of NEXT) {
          for (const d of [0x41, 0x80, 0xbf, 0xff]) {
            const bytes = Uint8Array.of(a, b, c, d, 0x42);
            expect(filter(bytes)).toBe(decoded(bytes));
          }
        }
      }
    }
  });

  it("gives the same wherever the bytes are cut", () => {
    const sample = Buffer.concat([
      Buffer.from("a\0ü€😀\ufeff\x1b[31mé"),
      Buffer.from([0xe2, 0x82, 0x41, 0xf0, 0x9f, 0x98, 0xc3, 0xff, 0xfe, 0xed, 0xa0, 0x80, 0xf4, 0x90, 0x80, 0x80]),
      Buffer.from("Grüße", "latin1"),
      Buffer.from([0xf0, 0x9f, 0x98]),
    ]);
    const result = decoded(sample);
    for (let first = 0; first <= sample.length; first++) {
      for (let second = first; second <= sample.length; second++) {
        const pieces = [sample.subarray(0, first), sample.subarray(first, second), sample.subarray(second)];
        expect(filter(...pieces)).toBe(result);
      }
    }
    expect(filter(...Array.from(sample, (byte) => Uint8Array.of(byte)))).toBe(result);
  });

  it("shows an incomplete character at the end as one U+FFFD, and not before", () => {
    const text = createTextFilter();
    expect(text.push(Buffer.from([0x61, 0xe2, 0x82])).toString()).toBe("a");
    expect(text.flush().toString()).toBe("\ufffd");
    expect(text.flush().toString()).toBe("");
  });

  it("finds boundaries", () => {
    const euro = Buffer.from("a€");
    expect([0, 1, 2, 3, 4, 9].map((limit) => characterBoundary(euro, limit))).toEqual([0, 1, 1, 1, 4, 4]);
    expect(completeLength(euro.subarray(0, 3))).toBe(1);
    expect(completeLength(Buffer.from([0x61, 0xff]))).toBe(2);
    expect(soundLength(Buffer.from("ok€\0x"))).toBe(5);
    expect(soundLength(Buffer.concat([Buffer.from("ok"), euro.subarray(1, 3)]))).toBe(2);
    expect(soundLength(Buffer.from("all good €"))).toBe(12);
  });
});
