import { describe, expect, test } from "vitest";
import { nearest } from "../../src/config/check/keys.ts";
import { readLayout } from "../../src/config/file/layout.ts";
import { nodeAt } from "../../src/config/file/layout-node.ts";
import { isTable, readToml, type TomlData } from "../../src/config/file/toml.ts";
import { parseDuration, parseSize } from "../../src/config/units.ts";

const TRICKY =
  `a = "x # no comment" # one
"quoted key" = 'it''s'`.replace("''", "") +
  `
'lit.eral' = """
[[runners]]
b = 1 \\"""
""" # two
c . d = [ 1, [2, "]"], # ]
  { e = "}", f = [ ] },
]
g = { h.i = 1, j = { k = '''l
m''' } }
n = 1979-05-27 07:32:00
"\\u006f" = """""two"""""
[p.'q r']
s = -1_000 # three
[[t]]
u = 0x1F
[[t.v]]
w = [
  "1",
  "2", # four
]
[t.v.x]
y = false
[[t]]
u = inf`;

describe("layout", () => {
  /** All paths of the data that the parser returns. */
  function* paths(data: TomlData, path: readonly (string | number)[] = []): Generator<readonly (string | number)[]> {
    if (path.length > 0) yield path;
    if (Array.isArray(data)) for (const [index, item] of data.entries()) yield* paths(item, [...path, index]);
    else if (isTable(data)) for (const [key, value] of Object.entries(data)) yield* paths(value, [...path, key]);
  }

  test("everything that the parser sees has its place", () => {
    const { data, layout, text } = readToml(TRICKY, "f");
    expect(layout.trouble).toBeNull();
    const all = [...paths(data)];
    expect(all.length).toBeGreaterThan(30);
    for (const path of all) {
      const node = nodeAt(layout.root, path);
      expect(node, path.join(".")).not.toBe(nodeAt(layout.root, path.slice(0, -1)));
      const key = path.findLast((step) => typeof step === "string");
      if (node.kind === "value" && key !== "o") expect(text.slice(node.at), path.join(".")).toMatch(/^\S/);
    }
    const lineOf = (...path: (string | number)[]): number => layout.lineAt(nodeAt(layout.root, path).at);
    expect(lineOf("quoted key")).toBe(2);
    expect(lineOf("c", "d", 2, "f")).toBe(8);
    expect(lineOf("g", "j", "k")).toBe(10);
    expect(lineOf("p", "q r", "s")).toBe(15);
    expect(lineOf("t", 0, "v", 0, "w", 1)).toBe(21);
    expect(lineOf("t", 0, "v", 0, "x", "y")).toBe(24);
    expect(lineOf("t", 1, "u")).toBe(26);
  });

  test("any beginning of a text is read without an error of its own", () => {
    for (let end = 0; end <= TRICKY.length; end++) {
      const layout = readLayout(TRICKY.slice(0, end));
      let parsed = true;
      try {
        readToml(TRICKY.slice(0, end), "f");
      } catch {
        parsed = false;
      }
      // If the parser takes a text, the layout reads it to its end, too.
      if (parsed) expect(layout.trouble, TRICKY.slice(0, end)).toBeNull();
    }
  });
});

describe("words and units", () => {
  test.each([
    ["concurent", "concurrent"],
    ["check-interval", "check_interval"],
    ["limti", "limit"],
    ["tokn", "token"],
    ["x", undefined],
    ["zzzzzz", undefined],
    ["a".repeat(10_000), undefined],
  ])("%.20s is %s", (word, expected) => {
    expect(nearest(word, ["concurrent", "check_interval", "limit", "token", "url"])).toBe(expected);
  });

  test.each([
    ["256MiB", 256 * 2 ** 20],
    ["1.5 gb", 1.5 * 2 ** 30],
    ["0", 0],
    ["10k", 10_240],
    ["", null],
    ["-1MiB", null],
    ["1PiB", null],
    ["999999999999999TiB", null],
    ["1e3", null],
  ])("size %s", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each([
    ["7d", 604_800_000],
    ["1h30m", 5_400_000],
    ["15m0s", 900_000],
    ["90", 90_000],
    ["250ms", 250],
    ["1.5h", 5_400_000],
    ["", null],
    ["-5s", null],
    ["1h 30", null],
    ["forever", null],
    ["1".repeat(5000), null],
  ])("duration %.20s", (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });
});
