import { expect, test } from "vitest";
import { globMatcher } from "../../../src/local/gitlab/decide/glob.ts";
import { namesOf } from "./stand.ts";

const LONG = `${"a".repeat(200)}b`;

test("a pattern that could be tried in endless ways takes no time", () => {
  const before = performance.now();
  expect(globMatcher(`${"*a".repeat(12)}c`)(LONG)).toBe(false);
  expect(globMatcher(`${"**/*a".repeat(12)}c`)(LONG)).toBe(false);
  expect(performance.now() - before).toBeLessThan(5000);
}, 20_000);

test("nor does one of include", async () => {
  const pattern = `${"**a".repeat(12)}c*.yml`;
  const names = await namesOf(`include: "${pattern}"\nj: {script: [x]}\n`, { files: { [`${LONG}.yml`]: "k: 1" } });
  expect(names).toEqual(["j"]);
}, 20_000);

test.each([
  ["[a-c]x", "bx", true],
  ["[a-c]x", "dx", false],
  ["a[+-9]b", "a/b", false],
  ["a[+-9]b", "a.b", true],
  ["a[+-9]b", "a5b", true],
  ["a[/]b", "a/b", false],
  ["a[/x]b", "axb", true],
  ["a[!x]b", "a/b", false],
  ["a[!x]b", "ayb", true],
  ["[z-a]", "b", false],
  ["ä?🙂*", "äx🙂y", true],
])("%s %s: %s", (pattern, path, fits) => expect(globMatcher(pattern)(path)).toBe(fits));
