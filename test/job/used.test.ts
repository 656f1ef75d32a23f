import { expect, test } from "vitest";
import { createStageClock, usageFields, usageLine } from "../../src/job/life/used.ts";

test("a line says what is known of a job, and leaves out what is not or took no time", () => {
  let now = 0;
  const clock = createStageClock(() => now);
  const steps: [string | undefined, number][] = [
    ["prepare_executor", 3100],
    ["prepare_script", 20],
    ["build_script", 30_900],
    [undefined, 0],
  ];
  for (const [stage, ms] of steps) {
    clock.enter(stage);
    now += ms;
  }
  const usage = {
    cpuSeconds: 41.26,
    peakMemoryBytes: 312 * 2 ** 20,
    readBytes: 0,
    writtenBytes: 3 * 2 ** 30,
    imageSeconds: 2.8,
  };
  expect(usageLine(usage, clock.times)).toBe(
    "Used 41.3 s of processor time, at most 312 MiB of memory, 0 MiB read, 3.0 GiB written; took 34.0 s: prepare_executor 3.1 s (images 2.8 s), build_script 30.9 s",
  );
  expect(usageLine({}, clock.times)).toBe("Took 34.0 s: prepare_executor 3.1 s, build_script 30.9 s");
  expect(usageFields(usage, clock.times)).toEqual({
    cpu_seconds: 41.26,
    peak_memory_bytes: 327155712,
    read_bytes: 0,
    written_bytes: 3221225472,
    image_seconds: 2.8,
    stage_seconds: "prepare_executor=3.100 prepare_script=0.020 build_script=30.900",
  });
});
