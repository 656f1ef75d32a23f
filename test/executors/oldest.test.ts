import { describe, expect, test } from "vitest";
import { type Candidate, chooseOldest } from "../../executors/common/kept/oldest.ts";
import type { KeepBudgets } from "../../src/executor/keeping.ts";

const all: KeepBudgets = { images: null, volumes: null, builds: null, free: null };
const thing = (kind: Candidate["kind"], name: string, bytes: number, usedAt: number, held = false): Candidate => ({
  kind,
  name,
  bytes,
  usedAt,
  held,
});
const things = [
  thing("image", "a", 5, 3),
  thing("image", "b", 5, 1),
  thing("image", "c", 5, 0, true),
  thing("volume", "d", 7, 2),
];
const names = (budgets: KeepBudgets, missing: number | null = null): string =>
  chooseOldest(things, budgets, missing === null ? null : { bytes: missing, why: "" })
    .map(({ thing: { name } }) => name)
    .join("");

describe("what goes", () => {
  test("is nothing without budgets, and the oldest of a kind beyond its budget", () => {
    expect(names(all)).toBe("");
    expect(names({ ...all, images: 15 })).toBe("");
    expect(names({ ...all, images: 14 })).toBe("b");
    expect(names({ ...all, images: 9 })).toBe("ba");
  });

  test("is never what is held, though that counts", () => {
    expect(names({ ...all, images: 0, volumes: 0 })).toBe("bda");
  });

  test("is the oldest of any kind where room is missing, and what goes anyway counts", () => {
    expect(names(all, 6)).toBe("bd");
    expect(names({ ...all, images: 14 }, 5)).toBe("b");
  });
});
