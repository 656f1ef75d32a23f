import { describe, expect, it } from "vitest";
import { lastCleanCut, lastLineEnd } from "../../src/trace/mask/pieces.ts";
import { createBudget, createPace, type PaceOptions } from "../../src/trace/pace.ts";

const OPTIONS: PaceOptions = {
  ...{ firstMs: 100, batchMs: 10, quietMs: 250, steadyMs: 1000, maxIntervalMs: 900_000, holdLineMs: 1000 },
  ...{ gatherBytes: 65_536, pieceBytes: 1_048_576 },
};

/** The times at which lines leave, in simulated time: lines of `lineBytes`, one each `everyMs`, for `forMs`. */
function simulate(options: PaceOptions, lineBytes: number, everyMs: number, forMs: number, askedMs?: number) {
  const pace = createPace(options);
  pace.asked(askedMs);
  const delays: number[] = [];
  let waiting: number[] = [];
  let requests = 0;
  let next = 1;
  for (let now = 1; now < forMs; ) {
    const [oldest] = waiting;
    const due =
      oldest === undefined
        ? Number.POSITIVE_INFINITY
        : pace.due(waiting.length * lineBytes, oldest, waiting.at(-1) ?? oldest);
    if (due <= now && oldest !== undefined) {
      delays.push(...waiting.map((since) => now - since));
      pace.sent(waiting.length * lineBytes, oldest, now);
      waiting = [];
      requests++;
      continue;
    }
    now = Math.min(due, next);
    if (now === next) {
      waiting.push(now);
      next += everyMs;
    }
  }
  const mean = delays.reduce((sum, delay) => sum + delay, 0) / delays.length;
  return { mean, max: Math.max(...delays), perMinute: (requests * 60_000) / forMs };
}

describe("pace", () => {
  it("lets a readable job be followed: 10 lines a second reach the coordinator within a quarter of a second", () => {
    const alloy = simulate(OPTIONS, 80, 100, 600_000);
    expect(alloy.mean).toBeLessThan(200);
    expect(alloy.max).toBeLessThan(500);
    const gitlab = simulate({ ...OPTIONS, quietMs: 350 }, 300, 100, 600_000);
    expect(gitlab.mean).toBeLessThan(250);
    expect(gitlab.max).toBeLessThan(500);
    expect(gitlab.perMinute).toBeLessThan(190);
  });

  it("lets a line that comes alone leave at once", () => {
    expect(simulate(OPTIONS, 80, 1000, 60_000).max).toBeLessThanOrEqual(10);
  });

  it("makes few and large pieces of a flood", () => {
    const flood = simulate(OPTIONS, 10_000, 10, 60_000);
    expect(flood.perMinute).toBeLessThan(90);
    expect(flood.max).toBeLessThan(1100);
  });

  it("sends the end of a flood as soon as it is quiet", () => {
    const pace = createPace(OPTIONS);
    for (let at = 1000; at < 20_000; at += 1000) pace.sent(500_000, at - 900, at);
    expect(pace.due(70_000, 19_010, 19_020)).toBe(19_270);
    expect(pace.due(70_000, 19_010, 19_900)).toBe(20_000);
  });

  it("keeps to the interval that the coordinator asks for", () => {
    const asked = simulate(OPTIONS, 80, 100, 600_000, 30_000);
    expect(asked.perMinute).toBeLessThan(2.2);
    expect(asked.max).toBeLessThanOrEqual(30_100);
  });

  it("never exceeds its budget in any minute", () => {
    const budget = createBudget(190);
    const times: number[] = [];
    for (let now = performance.now(), end = now + 300_000; now < end; ) {
      const wait = budget.waitMs(now, "piece");
      if (wait === 0) {
        budget.spend(now);
        times.push(now);
      } else now += Math.ceil(wait);
    }
    for (const [index, time] of times.entries()) {
      expect(times.filter((other) => other >= time && other < time + 60_000).length).toBeLessThanOrEqual(192);
      if (index > 60) break;
    }
  });
});

describe("pieces", () => {
  it.each([
    ["one\ntwo\nthr", 8],
    ["no line end", 0],
    ["line\n\x1b[31", 5],
    ["line\n\x1b]0;title\nwith line break", 5],
    ["line\n\x1b]0;title\x07\nx", 16],
    ["line\n\x1b[31mred\x1b[0m\nx", 18],
  ])("end after the last line break outside an escape sequence: %j", (text, end) => {
    expect(lastLineEnd(Buffer.from(text))).toBe(end);
  });

  it.each([
    ["abc", 3],
    ["abc\x1b", 3],
    ["abc\x1b[", 3],
    ["abc\x1b[1;3", 3],
    ["abc\x1b[1;31m", 10],
    ["abc\x1b]8;;http://x", 3],
    ["\x1b[31", 4],
  ])("of an unfinished line are cut outside of escape sequences: %j", (text, end) => {
    expect(lastCleanCut(Buffer.from(text))).toBe(end);
  });

  it("are cut between characters", () => {
    const text = Buffer.from("a😀b€");
    const cuts = Array.from({ length: text.length }, (_, size) => lastCleanCut(text.subarray(0, size + 1)));
    expect(cuts).toEqual([1, 1, 1, 1, 5, 6, 6, 6, 9]);
  });
});
