import { afterEach, expect, test, vi } from "vitest";
import { Stop } from "../src/errors.ts";
import { backoff, deadline, never, pause, unlessAborted } from "../src/time.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

/** Makes the wall clock jump by `years` with each look at it. */
function steppingClock(years: number): void {
  const real = Date.now;
  let looks = 0;
  vi.spyOn(Date, "now").mockImplementation(() => real() + ++looks * years * 31_557_600_000);
}

test.each([50, -50])("a clock that is set by %d years moves neither a limit nor a wait", async (years) => {
  steppingClock(years);
  const begin = performance.now();
  using limit = deadline(never, 60, new Stop("timed_out", "60 ms"));
  await pause(40, never);
  expect(limit.signal.aborted).toBe(false);
  await new Promise<void>((resolve) => limit.signal.addEventListener("abort", () => resolve(), { once: true }));
  expect(performance.now() - begin).toBeGreaterThanOrEqual(59);
  expect(limit.signal.reason).toMatchObject({ why: "timed_out" });
});

test("a limit longer than a timer can hold does not fire at once", async () => {
  using century = deadline(never, 100 * 31_557_600_000, new Stop("timed_out", "a century"));
  using ever = deadline(never, Number.POSITIVE_INFINITY, new Stop("timed_out", "never"));
  await pause(30, never);
  expect([century.signal.aborted, ever.signal.aborted]).toEqual([false, false]);
});

test("a limit fires with its parent, and one that is past at once", () => {
  const parent = new AbortController();
  using limit = deadline(parent.signal, 60_000, new Stop("timed_out", "a minute"));
  using past = deadline(never, -1, new Stop("timed_out", "past"));
  parent.abort(new Stop("canceled", "by the coordinator"));
  expect(limit.signal.reason).toMatchObject({ why: "canceled" });
  expect(past.signal.reason).toMatchObject({ why: "timed_out" });
});

test("waits grow up to their bound and start again", () => {
  const waits = backoff({ firstMs: 100, maxMs: 350 });
  const five = Array.from({ length: 5 }, () => waits.next());
  for (const [index, most] of [100, 200, 350, 350, 350].entries()) {
    expect(five[index]).toBeGreaterThanOrEqual(most / 2);
    expect(five[index]).toBeLessThanOrEqual(most);
  }
  waits.reset();
  expect(waits.next()).toBeLessThanOrEqual(100);
});

test("what is waited for comes through, fails as itself, or is given up with the signal's reason", async () => {
  expect(await unlessAborted(Promise.resolve(7), never)).toBe(7);
  await expect(unlessAborted(Promise.reject(new Error("its own")), never)).rejects.toThrow("its own");
  const reason = new Stop("canceled", "by a person");
  const stop = new AbortController();
  const late = Promise.withResolvers<number>();
  const given = unlessAborted(late.promise, stop.signal);
  stop.abort(reason);
  await expect(given).rejects.toBe(reason);
  // Nobody waits for this any more; if it were an unhandled rejection, it would fail the whole run.
  late.reject(new Error("too late"));
  await expect(unlessAborted(new Promise(() => {}), stop.signal)).rejects.toBe(reason);
});
