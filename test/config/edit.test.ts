import { parse } from "@iarna/toml";
import { describe, expect, test } from "vitest";
import { appendEntry, removeEntries, setKeys } from "../../src/config/file/edit.ts";

const NEW = { name: "n", url: "http://h", token: "t", executor: "docker", docker: { image: "i", volumes: ["/cache"] } };

const FILE = `# Site config, see wiki
concurrent = 4 # two per core

[session_server]
  timeout = 3 # odd

# the first
[[runners]]
  name = "one"
  odd_key = 5
  # about the token
  token = "1" # one
  pre_build_script = """
# no comment
[[runners]]
"""
  # last of one

  # docker of one
  [runners.docker]
    image = "x"

# --- a banner ---

# the second
[[runners]]
  name = "two"
  [[runners.docker.services]]
    name = "pg"
  [[runners.docker.services]]
    name = "redis"
# the third
[[runners]]
name = "three"
# of three

# end of file
`;

describe("adding", () => {
  test("a new file gets concurrent and the entry", () => {
    expect(appendEntry("", NEW)).toBe(`concurrent = 1

[[runners]]
  name = "n"
  url = "http://h"
  token = "t"
  executor = "docker"
  [runners.docker]
    image = "i"
    volumes = ["/cache"]
`);
  });

  test("all that was there stays byte for byte", () => {
    const text = appendEntry(FILE, NEW);
    expect(text.startsWith(FILE)).toBe(true);
    expect(parse(text).runners).toMatchObject([{ name: "one" }, { name: "two" }, { name: "three" }, NEW]);
  });

  test("line ends, a byte order mark and a missing last line break are kept", () => {
    const crlf = `\uFEFF${FILE.trimEnd()}`.replaceAll("\n", "\r\n");
    const text = appendEntry(crlf, NEW);
    expect(text.startsWith(`${crlf}\r\n\r\n[[runners]]\r\n`)).toBe(true);
    expect(text).not.toMatch(/[^\r]\n/);
  });

  test("headers in capitals and inline lists are followed", () => {
    expect(appendEntry('[[Runners]]\nname="a"\n', NEW)).toContain('[[Runners]]\n  name = "n"');
    expect(appendEntry('[[Runners]]\nname="a"\n', NEW)).toContain("  [Runners.docker]");
    expect(appendEntry("runners = [] # none\n[x]\na=1\n", { name: "n", d: { i: 1 } })).toBe(
      'runners = [{ name = "n", d = { i = 1 } }] # none\n[x]\na=1\n',
    );
    expect(appendEntry("runners = [ {a=1}, # x\n]\n", { name: "n" })).toBe(
      'runners = [ {a=1}, { name = "n" }, # x\n]\n',
    );
  });

  test("every text comes back as it was", () => {
    const texts = ['"', "\\", "a\nb", "\r\t\b\f", "\u0001\u007f\u0085", "'''", '"""', "é😀\u2028", "#x = [", ""];
    const entry = Object.fromEntries(texts.map((text, index) => [`k${index}`, text]));
    const written = appendEntry("", {
      ...entry,
      "odd key": 1,
      n: 1.5,
      big: 1e21,
      list: [[1, 2], ["x"]],
      t: [{ a: { b: true } }],
    });
    expect(parse(written).runners).toEqual([
      { ...entry, "odd key": 1, n: 1.5, big: 1e21, list: [[1, 2], ["x"]], t: [{ a: { b: true } }] },
    ]);
  });
});

describe("removing", () => {
  const lines = (text: string): string[] => text.split(/\r?\n/).filter((line) => line.trim() !== "");

  test("the first entry goes with its comments, banners and the rest stay", () => {
    const start = FILE.indexOf("# the first");
    const end = FILE.indexOf("# --- a banner");
    expect(removeEntries(FILE, new Set([0]))).toBe(FILE.slice(0, start) + FILE.slice(end));
  });

  test("an entry in the middle goes with its lists of tables", () => {
    const start = FILE.indexOf("# the second");
    const end = FILE.indexOf("# the third");
    expect(removeEntries(FILE, new Set([1]))).toBe(FILE.slice(0, start) + FILE.slice(end));
  });

  test("the last entry leaves the comment at the end of the file", () => {
    const text = removeEntries(FILE, new Set([2]));
    expect(text).not.toContain("of three");
    expect(text).toContain('name = "redis"\n# end of file\n');
  });

  test("all entries go and the global section stays", () => {
    const text = removeEntries(FILE, new Set([0, 1, 2]));
    expect(parse(text)).toEqual({ concurrent: 4, session_server: { timeout: 3 } });
    expect(text).toContain("# Site config");
    expect(text).toContain("# --- a banner ---");
  });

  test("CRLF files are cut at the same places", () => {
    for (const indexes of [[0], [1], [2], [0, 2], [0, 1, 2]]) {
      const plain = removeEntries(FILE, new Set(indexes));
      expect(removeEntries(FILE.replaceAll("\n", "\r\n"), new Set(indexes))).toBe(plain.replaceAll("\n", "\r\n"));
    }
  });

  test("a comment that opens the file stays, and so does the byte order mark", () => {
    const text = '\uFEFF# head\n[[runners]]\nname = "a"\n[[runners]]\nname = "b"\n';
    expect(removeEntries(text, new Set([0]))).toBe('\uFEFF# head\n[[runners]]\nname = "b"\n');
    expect(removeEntries(text.replace("# head\n", ""), new Set([0]))).toBe('\uFEFF[[runners]]\nname = "b"\n');
  });

  test("tables of an entry that stand apart go too", () => {
    const text = '[[runners]]\nname = "a"\n[other]\nx = 1\n[runners.docker]\nimage = "i"\n[last]\ny = 2\n';
    expect(removeEntries(text, new Set([0]))).toBe("[other]\nx = 1\n[last]\ny = 2\n");
  });

  test("entries of inline lists go with one comma", () => {
    const text = "runners = [ {n=1}, {n=2} , {n=3}, ] # x\n";
    const left = (...indexes: number[]): unknown => parse(removeEntries(text, new Set(indexes))).runners;
    expect(left(0)).toEqual([{ n: 2 }, { n: 3 }]);
    expect(left(1)).toEqual([{ n: 1 }, { n: 3 }]);
    expect(left(2)).toEqual([{ n: 1 }, { n: 2 }]);
    expect(left(0, 1)).toEqual([{ n: 3 }]);
    expect(left(1, 2)).toEqual([{ n: 1 }]);
    expect(left(0, 2)).toEqual([{ n: 2 }]);
    expect(left(0, 1, 2)).toEqual([]);
  });

  test("adding and removing again leaves what was there", () => {
    expect(lines(removeEntries(appendEntry(FILE, NEW), new Set([3])))).toEqual(lines(FILE));
  });
});

describe("setting keys of an entry", () => {
  const WISHES = { token: 'new"', token_obtained_at: new Date("2027-01-02T03:04:05.678Z"), known_as: "0a1b2c3d" };

  test("a value that is there is replaced where it stands, a new key comes behind the token; all else stays", () => {
    const edited = setKeys(FILE, 0, WISHES);
    expect(edited).toBe(
      FILE.replace(
        '  token = "1" # one\n',
        '  token = "new\\"" # one\n  token_obtained_at = 2027-01-02T03:04:05Z\n  known_as = "0a1b2c3d"\n',
      ),
    );
    expect(setKeys(edited, 0, WISHES)).toBe(edited);
  });

  test.each([
    ['runners = [{ token = "a", url = "u" }]', 'runners = [{ token = "new", b = 1, url = "u" }]'],
    ['[[runners]]\r\n\ttoken = "a"', '[[runners]]\r\n\ttoken = "new"\r\n\tb = 1\r\n'],
    ["[[Runners]]\nTOKEN = '''a''' # x\nB = 0\n", '[[Runners]]\nTOKEN = "new" # x\nB = 1\n'],
    ["[[runners]]\nname = 'x'\n", "[[runners]]\nname = 'x'\n"],
  ])("%j", (text, expected) => {
    expect(setKeys(text, 0, { token: "new", b: 1 })).toBe(expected);
  });
});
