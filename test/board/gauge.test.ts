import { expect, test } from "vitest";
import { createGauge } from "../../src/board/gauge.ts";
import type { JobUsage } from "../../src/job/job.ts";

test("what a job uses is measured when somebody asks, once for all who ask, and says how busy it was since", async () => {
  let now = 0;
  let measured = 0;
  const gauge = createGauge(
    async () => {
      measured++;
      return { cpuSeconds: now / 500, memoryBytes: 1000 + now };
    },
    () => now,
  );
  const both = await Promise.all([gauge(), gauge()]);
  expect(both).toEqual([
    { cpuSeconds: 0, memoryBytes: 1000 },
    { cpuSeconds: 0, memoryBytes: 1000 },
  ]);
  now = 800;
  expect(await gauge()).toEqual({ cpuSeconds: 0, memoryBytes: 1000 });
  expect(measured).toBe(1);
  now = 2000;
  expect(await gauge()).toEqual({ cpuSeconds: 4, memoryBytes: 3000, cpuPercent: 200 });
  // Nobody looked for a while: how busy it was since says nothing about now.
  now = 60_000;
  expect(await gauge()).toEqual({ cpuSeconds: 120, memoryBytes: 61_000 });
  expect(measured).toBe(3);
});

test("a container that counts anew has no processor time less than nothing", async () => {
  let now = 0;
  const answers: JobUsage[] = [{ cpuSeconds: 9 }, { cpuSeconds: 1 }, { cpuSeconds: 2 }];
  const gauge = createGauge(
    async () => answers.shift() ?? {},
    () => now,
  );
  await gauge();
  now = 1000;
  expect(await gauge()).toEqual({ cpuSeconds: 1 });
  now = 2000;
  expect(await gauge()).toEqual({ cpuSeconds: 2, cpuPercent: 100 });
});

test("a place that answers slowly, or not at all, keeps nobody waiting and is not asked again and again", async () => {
  let now = 0;
  let asked = 0;
  const { promise, resolve } = Promise.withResolvers<JobUsage>();
  const gauge = createGauge(
    async () => {
      asked++;
      return await promise;
    },
    () => now,
  );
  expect(await gauge()).toEqual({});
  now = 1500;
  resolve({ memoryBytes: 5 });
  expect(await gauge()).toEqual({ memoryBytes: 5 });
  // It took 1.5 s, so that it rests for 15.
  now = 16_000;
  expect(await gauge()).toEqual({ memoryBytes: 5 });
  expect(asked).toBe(1);
  const failing = createGauge(async () => {
    throw new Error("gone");
  });
  expect(await failing()).toEqual({});
});
