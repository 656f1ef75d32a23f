import { expect, test } from "vitest";
import { handingOver } from "../../executors/common/hand-over.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import { never } from "../../src/time.ts";
import { Sink, sampleRequest } from "../support/executor-kit.ts";

/** An executor whose environments are removed by `destroy`; each gets the lowest slot that is free. */
function executorThat(destroy: (slot: number) => Promise<void>): { executor: Executor; prepared: number[] } {
  const taken = new Set<number>();
  const prepared: number[] = [];
  const environmentIn = (projectSlot: number): Environment => ({
    shell: "sh",
    login: false,
    workspace: {
      root: "/r",
      tmpDir: "/t",
      list: () => Promise.reject(new Error("no files")),
      pack: () => Promise.reject(new Error("no files")),
      unpack: () => Promise.reject(new Error("no files")),
    },
    projectSlot,
    host: "here",
    location: { at: "this machine" },
    buildsDir: "/",
    run: () => Promise.reject(new Error("no scripts")),
    destroy: async () => {
      await destroy(projectSlot);
      taken.delete(projectSlot);
    },
  });
  const executor: Executor = {
    name: "scripted",
    title: "Scripted",
    features: { variables: true, image: false, services: false, shared: true },
    shell: "sh",
    prepare: async () => {
      let slot = 0;
      while (taken.has(slot)) slot++;
      taken.add(slot);
      prepared.push(slot);
      return environmentIn(slot);
    },
    recover: async () => ({ done: [], left: [] }),
    close: async () => {},
  };
  return { executor: handingOver(executor, 200), prepared };
}

const next = async (executor: Executor, signal = never): Promise<Environment> =>
  await executor.prepare(sampleRequest(), new Sink(), signal);

test("the lowest place that no job works in is waited for, and only that", async () => {
  const removal = [Promise.withResolvers<void>(), Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { executor, prepared } = executorThat(async (slot) => await removal[slot]?.promise);
  const [first, second, third] = [await next(executor), await next(executor), await next(executor)];
  expect(prepared).toEqual([0, 1, 2]);
  const leaving = [second.destroy(never), third.destroy(never)];
  const waiting = next(executor);
  removal[1]?.resolve();
  expect((await waiting).projectSlot).toBe(1);
  removal[2]?.resolve();
  await Promise.all(leaving);
  // A second call comes late, when another job has the place.
  await second.destroy(never).catch(() => {});
  expect((await next(executor)).projectSlot).not.toBe(first.projectSlot);
});

test("the wait has a bound, and ends with the job", async () => {
  const { executor } = executorThat(() => new Promise(() => {}));
  void (await next(executor)).destroy(never);
  const stop = new AbortController();
  const stopped = next(executor, stop.signal);
  stop.abort(new Error("canceled"));
  await expect(stopped).rejects.toThrow("canceled");
  expect((await next(executor)).projectSlot).toBe(1);
});

test("what cannot be cleaned up is not waited for", async () => {
  const { executor } = executorThat(() => Promise.reject(new Error("no")));
  await expect((await next(executor)).destroy(never)).rejects.toThrow("no");
  const before = performance.now();
  expect((await next(executor)).projectSlot).toBe(1);
  expect(performance.now() - before).toBeLessThan(200);
});
