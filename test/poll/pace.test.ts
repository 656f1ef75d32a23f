import { describe, expect, test } from "vitest";
import { createAlarm } from "../../src/poll/alarm.ts";
import { firstDelayMs, idlePauseMs } from "../../src/poll/pace.ts";

describe("the idle pause", () => {
  const pause = (entriesOnOrigin: number, random: number, strict = false, checkIntervalMs = 3000) =>
    idlePauseMs({ checkIntervalMs, entriesOnOrigin, strict }, random);

  test("is short for few entries and never longer than check_interval", () => {
    expect(pause(1, 0.5)).toBeCloseTo(1080);
    expect(pause(1, 0)).toBeCloseTo(972);
    expect(pause(1, 0.999)).toBeLessThan(1188);
    expect(pause(4, 0.5)).toBeCloseTo(1500);
    for (const entries of [8, 100]) {
      expect(pause(entries, 0.5)).toBeCloseTo(3000);
      expect(pause(entries, 0.999)).toBe(3000);
      expect(pause(entries, 0)).toBeCloseTo(2700);
    }
  });

  test("is check_interval to the letter where that is wanted", () => {
    expect(pause(1, 0.1, true)).toBe(3000);
    expect(pause(1, 0.1, true, 20_000)).toBe(20_000);
  });

  test("spreads first requests evenly", () => {
    expect(firstDelayMs(0, 1, 1200, 0.9)).toBe(0);
    const delays = Array.from({ length: 100 }, (_, index) => firstDelayMs(index, 100, 3000, 0.5));
    expect(delays[0]).toBe(15);
    expect(delays[99]).toBe(2985);
    expect(firstDelayMs(1, 2, 1200, 0)).toBe(100);
  });
});

describe("an alarm", () => {
  const far = 1_000_000;

  test("ends a wait when rung, also when rung before", async () => {
    const alarm = createAlarm([1]);
    alarm.ring();
    await alarm.wait(far, null);
    const waiting = alarm.wait(far, null);
    alarm.ring();
    await waiting;
  });

  test("ends waits at the times of a nudge, each once", async () => {
    const alarm = createAlarm([5, 20, 40]);
    const before = performance.now();
    alarm.nudge();
    for (let turn = 0; turn < 3; turn++) await alarm.wait(far, performance.now());
    expect(performance.now() - before).toBeGreaterThanOrEqual(40);
    const left = alarm.wait(far, performance.now());
    alarm.ring();
    await left;
  });

  test("asks again at once when the times of a nudge passed during a request", async () => {
    const alarm = createAlarm([1, 2]);
    const since = performance.now();
    alarm.nudge();
    await new Promise((resolve) => setTimeout(resolve, 10));
    await alarm.wait(far, since);
    const over = alarm.wait(20, since);
    await over;
  });

  test("passes over the times of a nudge where only the whole pause counts", async () => {
    const alarm = createAlarm([1]);
    alarm.nudge();
    const before = performance.now();
    await alarm.wait(30, null);
    expect(performance.now() - before).toBeGreaterThanOrEqual(29);
  });

  test("holds pauses that are longer than a timer can hold", async () => {
    const alarm = createAlarm([]);
    let over = false;
    const waiting = alarm.wait(1e12, null).then(() => {
      over = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(over).toBe(false);
    alarm.ring();
    await waiting;
  });
});
