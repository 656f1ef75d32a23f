import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { cases } from "./cases.ts";

interface Row {
  readonly key: string;
  readonly bound: string;
  readonly said: string;
}

const text = readFileSync(join(import.meta.dirname, "../../docs/limits.md"), "utf8");
const rows: readonly Row[] = [...text.matchAll(/^\| `([^`]+)` \| .+ \| ([^|]+) \| `([^`]+)` \|$/gm)].map(
  ([, key = "", bound = "", said = ""]) => ({ key, bound, said }),
);

test("each row of docs/limits.md has a case, and each case a row", () => {
  const lines = text.split("\n").filter((line) => line.startsWith("| `"));
  expect(rows.length).toBe(lines.length);
  expect(rows.map(({ key }) => key).sort()).toEqual(Object.keys(cases).sort());
});

test.each(rows)("$key: $bound, and what is more is answered by a sentence", { timeout: 120_000 }, async (row) => {
  const its = cases[row.key];
  expect(its?.bound).toBe(row.bound);
  expect(await its?.beyond()).toContain(row.said);
});
