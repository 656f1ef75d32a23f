import { afterEach, describe, expect, test, vi } from "vitest";
import type { Executor } from "../../src/executor/executor.ts";
import type { KeepBudgets, Tidied } from "../../src/executor/keeping.ts";
import { createHousekeeper, type Housekeeper } from "../../src/poll/housekeeping.ts";
import { never } from "../../src/time.ts";
import { silentLog } from "../support/executor-deps.ts";

const nothing: KeepBudgets = { images: null, volumes: null, builds: null, free: null };
const image = (name: string): Tidied => ({
  kind: "image",
  name,
  bytes: 7,
  usedAt: 0,
  where: "an engine",
  why: "it is old",
});

const opened: Housekeeper[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

function keeper(more: {
  tidy: NonNullable<Executor["tidy"]>;
  entries?: number;
  budgets?: KeepBudgets;
  isBusy?: () => boolean;
}) {
  const freed: [string, number][] = [];
  const executors = Array.from({ length: more.entries ?? 1 }, () => ({ name: "docker", tidy: more.tidy }));
  const housekeeper = createHousekeeper({
    budgets: () => more.budgets ?? { ...nothing, images: 1 },
    executors: () => executors,
    isBusy: more.isBusy ?? (() => false),
    freed: (kind, bytes) => freed.push([kind, bytes]),
    log: silentLog,
    timing: { everyMs: 10, busyMs: 600_000, pressedMs: 600_000 },
  });
  opened.push(housekeeper);
  return { housekeeper, freed };
}

describe("housekeeping", () => {
  test("happens by itself while no job runs, and not without a budget", async () => {
    let busy = true;
    let times = 0;
    const tidy = async (): Promise<Tidied[]> => [image(String(++times))];
    const { freed } = keeper({ tidy, isBusy: () => busy });
    const idle = keeper({ tidy: async () => [image("never")], budgets: nothing });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(times).toBe(0);
    busy = false;
    await vi.waitFor(() => expect(freed.length).toBeGreaterThan(1));
    expect(freed[0]).toEqual(["image", 7]);
    expect(idle.freed).toEqual([]);
  });

  test("under pressure happens at once, also beside jobs, and once for all who press", async () => {
    let times = 0;
    const tidy = async (): Promise<Tidied[]> => [image(String(++times))];
    const { housekeeper, freed } = keeper({ tidy, isBusy: () => true });
    housekeeper.press();
    housekeeper.press();
    await vi.waitFor(() => expect(freed).toHaveLength(1));
    await housekeeper.close();
    expect(times).toBe(1);
  });

  test("what several entries at one engine would remove is shown once, and nothing of that is counted", async () => {
    const { housekeeper, freed } = keeper({ tidy: async () => [image("a")], entries: 2, isBusy: () => true });
    expect(await housekeeper.tidy(true, never)).toEqual([image("a")]);
    expect(freed).toEqual([]);
  });

  test("one engine that is away keeps no other from being tidied", async () => {
    let times = 0;
    const tidy = async (): Promise<Tidied[]> => {
      if (++times === 1) throw new Error("away");
      return [image("a"), { ...image("b"), problem: "busy" }];
    };
    const { housekeeper, freed } = keeper({ tidy, entries: 2, isBusy: () => true });
    expect(await housekeeper.tidy(false, never)).toHaveLength(2);
    expect(freed).toEqual([["image", 7]]);
  });
});
