import { PassThrough } from "node:stream";
import { describe, expect, test } from "vitest";
import { createLiveOutput } from "../../src/local/report/live-output.ts";
import { summaryLines } from "../../src/local/report/summary.ts";
import { cutToWidth, padToWidth, textWidth } from "../../src/local/report/text-width.ts";

describe("width", () => {
  test.each([
    ["plain", 5],
    ["é", 1],
    ["e\u0301", 1],
    ["日本", 4],
    ["🎉", 2],
    ["한국", 4],
    ["a\u200bb", 2],
    ["│…✓", 3],
    ["", 0],
  ])("%j takes %i columns", (text, width) => {
    expect(textWidth(text)).toBe(width);
  });

  test.each([
    ["plain", 5, "plain"],
    ["longer", 5, "long…"],
    ["日本語", 5, "日本…"],
    ["日本語", 4, "日…"],
    ["日本語", 6, "日本語"],
    ["x", 1, "x"],
    ["xy", 1, "…"],
  ])("%j in %i columns is %j", (text, columns, cut) => {
    expect(cutToWidth(text, columns)).toBe(cut);
    expect(textWidth(padToWidth(text, columns))).toBe(columns);
  });
});

/** A screen that understands the sequences of the display: line ends, carriage return, cursor up, clear to the end. */
function screen(columns: number): { write(text: string): void; lines(): string[] } {
  let rows: string[] = [""];
  let row = 0;
  return {
    write(text) {
      for (const [piece] of text.matchAll(/\x1b\[(\d*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+/g)) {
        const [, count, letter] = /^\x1b\[(\d*)([A-Za-z])$/.exec(piece) ?? [];
        if (letter === "A") row = Math.max(0, row - Number(count));
        else if (letter === "J") rows = [...rows.slice(0, row), ""];
        else if (letter === "m" || piece === "\r") continue;
        else if (piece === "\n") {
          row++;
          rows[row] ??= "";
        } else {
          let rest = (rows[row] ?? "") + piece;
          while (textWidth(rest) > columns) {
            const head = [...rest].slice(0, columns).join("");
            rows[row++] = head;
            rest = rest.slice(head.length);
          }
          rows[row] = rest;
        }
      }
    },
    lines: () => rows,
  };
}

/** What the display has written so far; a microtask later all of it has arrived. */
async function shownBy(columns: number, play: (live: ReturnType<typeof createLiveOutput>) => void): Promise<string[]> {
  const output = new PassThrough({ encoding: "utf8" });
  const view = screen(columns);
  output.on("data", (text: string) => view.write(text));
  const live = createLiveOutput(output, {
    colors: true,
    names: ["unit", "integration"],
    terminal: { columns: () => columns, rows: () => 24 },
  });
  play(live);
  await new Promise((resolve) => setImmediate(resolve));
  live.close();
  await new Promise((resolve) => setImmediate(resolve));
  return view.lines();
}

describe("a terminal", () => {
  test("shows a line per running job below the output, and takes it away at the end", async () => {
    const output = new PassThrough({ encoding: "utf8" });
    let raw = "";
    output.on("data", (text: string) => {
      raw += text;
    });
    const live = createLiveOutput(output, {
      colors: false,
      names: ["unit", "integration"],
      terminal: { columns: () => 40, rows: () => 24 },
    });
    const view = screen(40);
    const now = async (): Promise<string[]> => {
      await new Promise((resolve) => setImmediate(resolve));
      view.write(raw);
      raw = "";
      return view.lines();
    };
    const unit = live.open("unit");
    const integration = live.open("integration");
    unit.started();
    integration.started();
    unit.write(Buffer.from("one\ntwo: a line that is longer than the terminal is wide\n"));
    const during = await now();
    expect(during[0]).toBe("unit       │ one");
    const block = during.slice(-3, -1);
    expect(block[0]).toMatch(/^. unit {8}0:00 {2}two: a line that/);
    expect(block[0]).toMatch(/…$/);
    expect(block[1]).toMatch(/^. integration 0:00$/);
    expect(block.every((line) => textWidth(line) < 40)).toBe(true);
    live.line("the end");
    live.close();
    const after = await now();
    expect(after.slice(-2)).toEqual(["the end", ""]);
    expect(after.join("\n")).not.toContain("0:00");
  });

  test("loses no line whatever its width, and nothing of the block stays between lines", async () => {
    const lines = await shownBy(60, (live) => {
      const unit = live.open("unit");
      unit.started();
      for (let index = 0; index < 200; index++) unit.write(Buffer.from(`line ${index} ${"日本".repeat(index % 7)}\n`));
    });
    expect(lines.filter((line) => line.includes("│ line"))).toHaveLength(200);
    expect(lines).toHaveLength(201);
  });
});

test("the table fits a narrow terminal and signs of any width", () => {
  const job = {
    stage: "test",
    state: "failed",
    allowFailure: false,
    durationMs: 1200,
    exitCode: 3,
    failureReason: undefined,
  } as const;
  const lines = summaryLines(
    [
      { ...job, name: "日本語".repeat(20) },
      { ...job, name: "x" },
    ],
    false,
    60,
  );
  expect(Math.max(...lines.map(textWidth))).toBeLessThanOrEqual(60);
  const [, head = "", first = "", second = ""] = lines;
  expect(textWidth(first.slice(0, first.indexOf("test")))).toBe(head.indexOf("stage"));
  expect(second.indexOf("test")).toBe(head.indexOf("stage"));
});
