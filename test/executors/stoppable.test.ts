import { setTimeout as wait } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { stoppable } from "../../executors/common/processes/stoppable.ts";

const stop = new Error("stopped");

/** Rejections that nobody has heard of. */
function unheard(): unknown[] {
  const found: unknown[] = [];
  const listener = (reason: unknown): void => void found.push(reason);
  process.on("unhandledRejection", listener);
  onTestFinished(() => void process.off("unhandledRejection", listener));
  return found;
}

test("what ends by itself after a stop is not forced", async () => {
  const body = Promise.withResolvers<string>();
  let forced = 0;
  const work = stoppable(body.promise, AbortSignal.abort(stop), 60_000, async () => forced++);
  body.resolve("ended");
  expect(await work).toBe("ended");
  expect(forced).toBe(0);
});

test("what does not end is forced, and the stop's reason is the answer; its own end is heard later", async () => {
  const lost = unheard();
  const body = Promise.withResolvers<string>();
  const signal = new AbortController();
  const work = stoppable(body.promise, signal.signal, 1, async () => {
    throw new Error("cannot be forced either");
  });
  signal.abort(stop);
  await expect(work).rejects.toBe(stop);
  body.reject(new Error("ended too late"));
  await wait(0);
  expect(lost).toEqual([]);
});

test("a body that fails while it is being forced is the answer, and the stop is nobody's failure", async () => {
  const lost = unheard();
  const body = Promise.withResolvers<string>();
  const work = stoppable(body.promise, AbortSignal.abort(stop), 1, async () => body.reject(new Error("died")));
  await expect(work).rejects.toThrow("died");
  await wait(0);
  expect(lost).toEqual([]);
});
