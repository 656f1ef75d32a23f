import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createDiskGauge } from "../../src/journal/state/disk.ts";
import { temporaryDirectory } from "./support.ts";

test("there is room while more than the least is free and the directory is there", async () => {
  const path = join(await temporaryDirectory(), "state");
  await mkdir(path);
  let least = 0;
  const gauge = createDiskGauge({ path, minFreeBytes: () => least, maxAgeMs: -1 });
  expect(gauge.freeBytes).toBeUndefined();
  expect(await gauge.hasRoom()).toBe(true);
  expect(gauge.freeBytes).toBeGreaterThan(0);
  least = 2 ** 60;
  expect(await gauge.hasRoom()).toBe(false);
  least = 0;
  await rm(path, { recursive: true });
  expect(await gauge.hasRoom()).toBe(false);
  expect(gauge.freeBytes).toBeUndefined();
});

test("one look serves all that ask within its time", async () => {
  const path = join(await temporaryDirectory(), "state");
  await mkdir(path);
  const gauge = createDiskGauge({ path, minFreeBytes: () => 0, maxAgeMs: 600_000 });
  expect(await gauge.hasRoom()).toBe(true);
  await rm(path, { recursive: true });
  expect(await gauge.hasRoom()).toBe(true);
});
