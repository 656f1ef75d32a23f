import { expect, test } from "vitest";
import { PLAIN, withCodes } from "../../src/web/page/trace/colors.ts";
import { type Change, createTraceReader } from "../../src/web/page/trace/reader.ts";

const ESC = "\x1b";
const texts = (changes: readonly Change[]): string[] =>
  changes.map((change) =>
    change.kind === "line"
      ? change.pieces.map(({ text }) => text).join("")
      : `${change.kind} ${change.name} ${change.at}`,
  );

test("lines, and the one that has not ended yet", () => {
  const reader = createTraceReader();
  expect(texts(reader.write("one\r\ntwo\n\nthr"))).toEqual(["one", "two", ""]);
  expect(reader.rest.map(({ text }) => text)).toEqual(["thr"]);
  expect(texts(reader.write("ee\n"))).toEqual(["three"]);
  expect(reader.rest).toEqual([]);
});

test("what returns to the beginning of its line overwrites it, and its colours stay", () => {
  const [line] = createTraceReader().write(`10 %\r${ESC}[32m50 %\r100 %\n`);
  expect(line).toEqual({ kind: "line", pieces: [{ text: "100 %", look: { ...PLAIN, ink: 2 } }] });
});

test("sections begin, end and have a heading, however the text arrives", () => {
  const text = `section_start:100:prepare\r${ESC}[0K${ESC}[36;1mPreparing${ESC}[0;m\nimage\nsection_end:104:prepare\r${ESC}[0Ksection_start:104:sources[collapsed=true]\r${ESC}[0KFetching\nsection_end:106:sources\r${ESC}[0K\n$ make\n`;
  const expected = [
    "start prepare 100",
    "Preparing",
    "image",
    "end prepare 104",
    "start sources 104",
    "Fetching",
    "end sources 106",
    "$ make",
  ];
  expect(texts(createTraceReader().write(text))).toEqual(expected);
  const byBytes = createTraceReader();
  expect([...text].flatMap((byte) => texts(byBytes.write(byte)))).toEqual(expected);
  const folded = createTraceReader()
    .write(text)
    .filter((change) => change.kind === "start");
  expect(folded.map(({ collapsed }) => collapsed)).toEqual([false, true]);
});

test("colours go on over lines, and sequences that move a cursor or name a window show nothing", () => {
  const reader = createTraceReader();
  const changes = reader.write(`${ESC}[31mred\nstill${ESC}[2J${ESC}]0;title\x07${ESC}(B${ESC}[39m plain\x07\n`);
  expect(changes).toEqual([
    { kind: "line", pieces: [{ text: "red", look: { ...PLAIN, ink: 1 } }] },
    {
      kind: "line",
      pieces: [
        { text: "still", look: { ...PLAIN, ink: 1 } },
        { text: " plain", look: PLAIN },
      ],
    },
  ]);
});

test("a line without an end is shown in parts, and is not kept", () => {
  const reader = createTraceReader();
  const parts = Array.from({ length: 40 }, () => texts(reader.write("x".repeat(1000)))).flat();
  expect(parts.map(({ length }) => length)).toEqual([16_384, 16_384]);
  expect(reader.rest[0]?.text).toHaveLength(40_000 - 2 * 16_384);
});

test.each([
  ["1;3;4", { bold: true, italic: true, underline: true }],
  ["91;104", { ink: 9, paper: 12 }],
  ["38;5;9", { ink: 9 }],
  ["38;5;196", { ink: "#ff0000" }],
  ["48;5;244", { paper: "#808080" }],
  ["38;2;1;2;3;1", { ink: "#010203", bold: true }],
  ["38;2;999;-1;x", { ink: "#ff0000" }],
  ["38:5:46", { ink: "#00ff00" }],
  ["38", {}],
  ["38;5", {}],
  ["7;27;9;29", {}],
  ["1;31;0", {}],
  ["31;", {}],
])("the codes %s", (codes, expected) => {
  expect(withCodes(PLAIN, codes)).toEqual({ ...PLAIN, ...expected });
});
