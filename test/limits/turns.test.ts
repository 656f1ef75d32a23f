import { expect, test } from "vitest";
import { expandBraces } from "../../executors/common/files/braces.ts";
import { createGathering, createNameCount, type FoundFile } from "../../executors/common/files/found.ts";
import { selectFiles } from "../../executors/common/files/select-files.ts";
import { sortedNames } from "../../executors/common/files/sort.ts";
import { readTar, tarEnd, tarHeader } from "../../src/files/tar.ts";
import { never } from "../../src/time.ts";
import { secretForms } from "../../src/trace/mask/disguises.ts";
import { compilePatterns } from "../../src/trace/mask/patterns.ts";
import { fileName } from "../../src/workspace.ts";

/**
 * The longest time that `work` kept the event loop busy, in ms of this process's own time, because other processes may
 * be busy, too.
 */
async function longestTurnMs(work: () => unknown): Promise<number> {
  let longest = 0;
  let last = process.cpuUsage();
  const look = (): void => {
    const { user, system } = process.cpuUsage(last);
    longest = Math.max(longest, (user + system) / 1000);
    last = process.cpuUsage();
  };
  let timer = setImmediate(function again() {
    look();
    timer = setImmediate(again);
  });
  await new Promise((resolve) => setImmediate(resolve));
  longest = 0;
  last = process.cpuUsage();
  await work();
  look();
  clearImmediate(timer);
  return longest;
}

const file: FoundFile = { kind: "file", size: 1, mode: 0o644, mtimeMs: 0 };

test("many files are excluded by many patterns in turns", { timeout: 60_000 }, async () => {
  const gathering = createGathering(createNameCount());
  for (let i = 0; i < 10_000; i++) gathering.add(`d/${i}`, file);
  const source = { find: async () => [gathering], untracked: async () => gathering, targets: async () => new Map() };
  const exclude = Array.from({ length: 300 }, (_, i) => `**/*a*b*c*${i}`);
  const select = { globs: ["d"], exclude: [...exclude, "d/*7"], untracked: false };
  let paths: readonly string[] = [];
  const longest = await longestTurnMs(async () => {
    ({ paths } = await selectFiles("/builds", select, source, never));
  });
  expect(paths.length).toBe(9000);
  expect(longest).toBeLessThan(500);
});

test("half a million names are sorted in turns", { timeout: 60_000 }, async () => {
  const names = Array.from({ length: 500_000 }, (_, i) => `directory/${(i * 7919) % 500_000}`);
  let sorted: readonly string[] = [];
  const longest = await longestTurnMs(async () => {
    sorted = await sortedNames(names);
  });
  const expected = [...names].sort();
  expect(sorted.length).toBe(expected.length);
  expect(sorted.findIndex((name, index) => name !== expected[index])).toBe(-1);
  expect(longest).toBeLessThan(500);
});

test.each([
  ["one of 8 MB", ["x".repeat(8_000_000)]],
  ["one of line ends", [`${"\n".repeat(1_000_000)}secret${"\n".repeat(1_000_000)}x`]],
  ["many that have disguises", Array.from({ length: 5000 }, (_, i) => `pass word "${i}"/+`)],
])("secrets, %s, are compiled soon", async (_what, secrets) => {
  expect(await longestTurnMs(() => compilePatterns(secretForms(secrets)))).toBeLessThan(2000);
});

test("sixty thousand token prefixes are compiled soon", async () => {
  const prefixes = Array.from({ length: 60_000 }, (_, i) => `tok${i}`);
  expect(await longestTurnMs(() => compilePatterns([], prefixes))).toBeLessThan(1000);
});

test.each([
  ["a{b,c}", ["ab", "ac"]],
  ["{a,b}{1,2}", ["a1", "a2", "b1", "b2"]],
  ["{a,{b,c}d}", ["a", "bd", "cd"]],
  ["{a}", ["a"]],
  ["{}x", ["x"]],
  ["{a,}x", ["ax", "x"]],
  ["x{a,b}y{c", ["xay{c", "xby{c"]],
  ["{a{b,c}", ["{a{b,c}"]],
  ["a}b", ["a}b"]],
  ["\\{a,b}", ["\\{a,b}"]],
  ["{a\\,b,c}", ["a\\,b", "c"]],
  ["{a,b}".repeat(10), null],
  ["{".repeat(33) + "}".repeat(33), null],
  [`${"{x}".repeat(2600)}${"{a,b}".repeat(9)}`, null],
])("%s stands for what it stands for", async (pattern, texts) => {
  let found: string[] | null = [];
  expect(await longestTurnMs(() => (found = expandBraces(pattern)))).toBeLessThan(500);
  expect(found).toEqual(texts);
});

test.each(["in the body of an entry", "after its end"])(
  "bytes of an archive %s are read in turns",
  {
    timeout: 60_000,
  },
  async (where) => {
    const size = where === "after its end" ? 0 : 8e9;
    const end = performance.now() + 2000;
    async function* archive(): AsyncGenerator<Buffer> {
      yield tarHeader({ name: fileName("x"), kind: "file", size, mode: 0o644, mtimeSeconds: 0, target: fileName("") });
      if (size === 0) yield tarEnd;
      const piece = Buffer.alloc(1024);
      while (performance.now() < end) yield piece;
    }
    const longest = await longestTurnMs(async () => {
      const read = async (): Promise<void> => {
        for await (const item of readTar(archive())) void item;
      };
      // The entry is longer than what comes of it.
      if (size > 0) await expect(read()).rejects.toThrow(/in the middle of x/);
      else await read();
    });
    expect(longest).toBeLessThan(500);
  },
);
