import { once } from "node:events";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, test } from "vitest";
import type { RunnerConfig } from "../../src/config/config.ts";
import { Stop } from "../../src/errors.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { ReceivedJob } from "../../src/job/life/received.ts";
import type { DeliveryResult } from "../../src/journal/contract.ts";
import { configOf, entryOf, executorOf, quickTiming, type Reply, startServer, supervise } from "./setting.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function server(...args: Parameters<typeof startServer>) {
  const started = await startServer(...args);
  closers.push(() => started.close());
  return started;
}

function supervised(...args: Parameters<typeof supervise>) {
  const started = supervise(...args);
  closers.push(async () => {
    started.stopping.abort(new Stop("shutting_down", "test ends"));
    await started.supervisor.drain();
  });
  return started;
}

const stopped = (signal: AbortSignal) => (signal.aborted ? Promise.resolve() : once(signal, "abort"));
const tick = () => new Promise((resolve) => setImmediate(resolve));
const farMs = 600_000;

/** Replies that hand out these jobs one by one, then nothing. */
function queue(...ids: string[]): () => Reply {
  return () => {
    const job = ids.shift();
    return job === undefined ? 204 : { job };
  };
}

describe("polling", () => {
  test("takes queued jobs back to back, however long the interval", async () => {
    const ids = Array.from({ length: 30 }, (_, index) => String(index));
    const coordinator = await server(queue(...ids));
    const ran: string[] = [];
    const all = Promise.withResolvers<void>();
    const { supervisor } = supervised(async ({ job }) => {
      ran.push(job.id);
      if (ran.length === 30) all.resolve();
    });
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { concurrent: 3, checkIntervalMs: farMs }));
    await all.promise;
    expect(ran.toSorted()).toEqual(ids.toSorted());
  });

  test("asks a few times soon after a job's report arrived", async () => {
    const coordinator = await server((_asked, count) => (count === 1 ? { job: "1" } : 204));
    const delivered = Promise.withResolvers<DeliveryResult>();
    const { supervisor, board } = supervised(async () => {}, {
      handleJob: async () => ({ outcome: { result: "success" }, delivered: delivered.promise }),
      // On a slow machine an answer may come as late as one to a held request.
      timing: { ...quickTiming, heldMs: farMs },
    });
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { checkIntervalMs: farMs }));
    await coordinator.until(() => coordinator.asked.length === 2);
    expect(board.jobs()).toMatchObject([{ id: "1", progress: { at: "delivering" } }]);
    delivered.resolve("delivered");
    await coordinator.until(() => coordinator.asked.length === 5);
    expect(board.jobs()).toEqual([]);
  });

  test("asks again at once when an empty answer was held back", async () => {
    const coordinator = await server(async (asked) => {
      if (asked.hold) await new Promise((resolve) => setTimeout(resolve, 60));
      return 204;
    });
    const { supervisor } = supervised(async () => {});
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { checkIntervalMs: farMs }));
    await coordinator.until(() => coordinator.asked.length === 4);
    expect(coordinator.asked.every(({ hold }) => hold)).toBe(true);
  });

  test("asks again at once when the work changed, but not for ever", async () => {
    const coordinator = await server(() => (response) => response.writeHead(204, { changed: "yes" }).end());
    // On a slow machine an answer may come as late as one to a held request.
    const { supervisor } = supervised(async () => {}, { timing: { ...quickTiming, heldMs: farMs } });
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { checkIntervalMs: farMs }));
    await coordinator.until(() => coordinator.asked.length === 2);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(coordinator.asked).toHaveLength(2);
  });

  test("lets requests be held back only while there is a slot for everyone", async () => {
    const coordinator = await server(() => 204);
    const { supervisor } = supervised(async () => {});
    const entries = ["a", "b", "c"].map((token) => entryOf(coordinator.url, token));
    supervisor.apply(configOf(entries, { concurrent: 2, checkIntervalMs: 20 }));
    await coordinator.until(() => coordinator.asked.length >= 12);
    expect(coordinator.asked.some(({ hold }) => hold)).toBe(false);
    supervisor.apply(configOf(entries, { concurrent: 8, checkIntervalMs: 20 }));
    const before = coordinator.asked.length;
    await coordinator.until(() => coordinator.asked.slice(before + 3).some(({ hold }) => hold));
  });

  test("asks again promptly after a lost race, and gives way after many", async () => {
    const coordinator = await server(() => 409);
    const { supervisor } = supervised(async () => {});
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { checkIntervalMs: farMs }));
    await coordinator.until(() => coordinator.asked.length === 11);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(coordinator.asked).toHaveLength(11);
  });

  test("waits as long as a coordinator in trouble asks for", async () => {
    const coordinator = await server((_asked, count) =>
      count === 1 ? (response) => response.writeHead(429, { "retry-after": "200" }).end() : 204,
    );
    const { supervisor } = supervised(async () => {});
    supervisor.apply(configOf([entryOf(coordinator.url, "a")]));
    await coordinator.until(() => coordinator.asked.length === 2);
    const [first, second] = coordinator.asked;
    expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThan(190);
  });

  test("says once that an outage began and once that it ended", async () => {
    let down = true;
    const coordinator = await server(() => (down ? 503 : 204));
    const { supervisor, lines } = supervised(async () => {});
    supervisor.apply(configOf([entryOf(coordinator.url, "a")]));
    await coordinator.until(() => coordinator.asked.length === 8);
    down = false;
    await coordinator.until(() => coordinator.asked.length === 12);
    const told = lines.filter((line) => line.includes("url="));
    expect(told).toHaveLength(2);
    expect(told[0]).toMatch(/^<4>cannot ask for jobs.*runner=id-a.*problem="status 503"/);
    expect(told[1]).toMatch(/^<6>the coordinator answers again/);
  });

  test("calms down while its token is not accepted, says so once, and recovers", async () => {
    let known = false;
    const coordinator = await server(({ token }) => (token === "a" && !known ? 401 : 204));
    const { supervisor, lines, metrics } = supervised(async () => {});
    supervisor.apply(configOf([entryOf(coordinator.url, "a"), entryOf(coordinator.url, "b")], { concurrent: 2 }));
    await coordinator.until(() => coordinator.of("a").length === 6);
    const errors = lines.filter((line) => line.startsWith("<3>"));
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatch(/does not accept this runner's token.*name="runner a".*status=401/);
    expect(await metrics.render()).toContain(
      'alloy_runner_entry_healthy{runner="id-a",runner_name="runner a",system_id=""} 0',
    );
    const failures = /worker_health_check_failures_total\{runner="id-a",runner_name="runner a",system_id=""\} [6-9]/;
    await expect.poll(() => metrics.render()).toMatch(failures);
    const times = coordinator.of("a").map(({ at }) => at);
    expect((times[5] ?? 0) - (times[4] ?? 0)).toBeGreaterThan(55);
    const others = coordinator.of("b").length;
    await coordinator.until(() => coordinator.of("b").length > others + 2);
    known = true;
    const before = coordinator.of("a").length;
    await coordinator.until(() => coordinator.of("a").length > before + 3);
    expect(lines.filter((line) => line.includes("accepts this runner's token again"))).toHaveLength(1);
    expect(await metrics.render()).toContain(
      'alloy_runner_entry_healthy{runner="id-a",runner_name="runner a",system_id=""} 1',
    );
  });

  test("tries an unhealthy entry at once after a reload", async () => {
    const coordinator = await server(() => 403);
    const timing = { ...(await import("./setting.ts")).quickTiming, probesMs: [farMs] };
    const { supervisor } = supervised(async () => {}, { timing });
    const config = configOf([entryOf(coordinator.url, "a")], { checkIntervalMs: 10 });
    supervisor.apply(config);
    await coordinator.until(() => coordinator.asked.length === 3);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(coordinator.asked).toHaveLength(3);
    supervisor.apply({ ...config });
    await coordinator.until(() => coordinator.asked.length === 6);
  });

  test("forgets of an entry that was changed that its token was not accepted", async () => {
    const coordinator = await server(({ token }, count) => (token !== "a" ? 204 : count === 1 ? { job: "1" } : 403));
    const mended = await server(() => 204);
    const ending = Promise.withResolvers<void>();
    const { supervisor, board, metrics } = supervised(() => ending.promise);
    closers.push(async () => ending.resolve());
    const series = 'alloy_runner_entry_healthy{runner="id-a",runner_name="runner a",system_id=""}';
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { concurrent: 3, checkIntervalMs: 10 }));
    await expect.poll(() => metrics.render()).toContain(`${series} 0`);
    // The entry's job goes on meanwhile.
    supervisor.apply(configOf([entryOf(mended.url, "a")], { concurrent: 3, checkIntervalMs: 10 }));
    await mended.until(() => mended.asked.length === 3);
    await expect.poll(() => metrics.render()).toContain(`${series} 1`);
    expect(board.jobs()).toHaveLength(1);
  });

  test("keeps to the interval also after a job where the entry says so, and is not nudged", async () => {
    const coordinator = await server(queue("1", "2", "3"));
    const { supervisor } = supervised(async () => {});
    const entry = entryOf(coordinator.url, "a", { strictCheckInterval: true });
    supervisor.apply(configOf([entry], { concurrent: 3, checkIntervalMs: 120 }));
    await coordinator.until(() => coordinator.asked.length === 5);
    const times = coordinator.asked.map(({ at }) => at);
    const pauses = times.slice(1).map((at, index) => at - (times[index] ?? 0));
    expect(Math.min(...pauses)).toBeGreaterThan(110);
  });

  test("never has two requests of one token under way, unless GitLab hands out its jobs", async () => {
    let jobs = 0;
    const slow = async (dialect: "alloy" | "gitlab"): Promise<Reply> => {
      await new Promise((resolve) => setTimeout(resolve, 10));
      return { job: String(++jobs), dialect };
    };
    const alloy = await server(() => slow("alloy"));
    const gitlab = await server(() => slow("gitlab"));
    const { supervisor } = supervised(async () => {});
    const many = { requestConcurrency: 4 };
    supervisor.apply(
      configOf(
        [
          entryOf(alloy.url, "a", many),
          entryOf(alloy.url, "a", { ...many, name: "twin" }),
          entryOf(gitlab.url, "g", many),
        ],
        { concurrent: 20 },
      ),
    );
    await gitlab.until(() => gitlab.asked.some(({ beside }) => beside === 3));
    await alloy.until(() => alloy.asked.length > 10);
    expect(Math.max(...alloy.asked.map(({ beside }) => beside))).toBe(0);
    expect(Math.max(...gitlab.asked.map(({ beside }) => beside))).toBe(3);
  });

  test("goes on, on all entries, while one coordinator hangs, even with a single slot", async () => {
    const hanging = await server(() => () => {});
    const well = await server((_asked, count) => ({ job: String(count) }));
    const ran: string[] = [];
    const enough = Promise.withResolvers<void>();
    const { supervisor } = supervised(async ({ job }) => {
      ran.push(job.id);
      if (ran.length === 5) enough.resolve();
    });
    supervisor.apply(configOf([entryOf(hanging.url, "h"), entryOf(well.url, "w")], { concurrent: 1 }));
    await enough.promise;
    expect(hanging.asked).toHaveLength(1);
  });

  test("makes a job of a hanging coordinator wait for its slot rather than exceed concurrent", async () => {
    const answerNow = Promise.withResolvers<void>();
    const hanging = await server(async () => {
      await answerNow.promise;
      return { job: "late" };
    });
    const well = await server(queue("early"));
    const running = new Set<string>();
    const end = Promise.withResolvers<void>();
    const early = Promise.withResolvers<void>();
    const late = Promise.withResolvers<void>();
    let most = 0;
    const { supervisor, board } = supervised(async ({ job, signal, concurrentId }) => {
      await concurrentId;
      running.add(job.id);
      most = Math.max(most, running.size);
      if (job.id === "early") {
        early.resolve();
        await end.promise;
      } else {
        late.resolve();
        await stopped(signal);
      }
      running.delete(job.id);
    });
    supervisor.apply(configOf([entryOf(hanging.url, "h"), entryOf(well.url, "w")], { concurrent: 1 }));
    await early.promise;
    answerNow.resolve();
    while (board.jobs().length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    expect([...running]).toEqual(["early"]);
    end.resolve();
    await late.promise;
    expect(most).toBe(1);
  });

  test("does not ask while disk space is short, and says so once", async () => {
    let room = false;
    let looks = 0;
    const coordinator = await server(() => 204);
    const looked = Promise.withResolvers<void>();
    const { supervisor, lines, metrics } = supervised(async () => {}, {
      hasRoom: async () => {
        if (++looks === 6) looked.resolve();
        return room;
      },
    });
    supervisor.apply(
      configOf([entryOf(coordinator.url, "a"), entryOf(coordinator.url, "b")], { checkIntervalMs: 10, concurrent: 2 }),
    );
    await looked.promise;
    expect(coordinator.asked).toHaveLength(0);
    expect(lines.filter((line) => line.includes("min_free_disk"))).toHaveLength(1);
    expect(await metrics.render()).toContain("alloy_runner_polling_paused 1\n");
    room = true;
    await coordinator.until(() => coordinator.asked.length > 2);
    expect(lines.filter((line) => line.includes("enough disk space again"))).toHaveLength(1);
    expect(await metrics.render()).toContain("alloy_runner_polling_paused 0\n");
  });

  test("asks for no job where the executor has no room, and gives its room back after the job", async () => {
    let room = 0;
    let taken = 0;
    const coordinator = await server(queue("1"));
    const seen = Promise.withResolvers<void>();
    const { supervisor } = supervised(
      async () => {
        expect(taken).toBe(1);
      },
      {
        openExecutor: () =>
          executorOf({
            reserve: async () => {
              if (room++ < 3) return null;
              taken++;
              return {
                name: `machine ${taken}`,
                [Symbol.asyncDispose]: async () => {
                  taken--;
                  if (room > 5) seen.resolve();
                },
              };
            },
          }),
      },
    );
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { checkIntervalMs: 10 }));
    await coordinator.until(() => coordinator.asked.length === 1);
    expect(room).toBe(4);
    await seen.promise;
    expect(taken).toBe(0);
  });

  test("a machine that takes its time holds up no other entry, and is handed to the job that it was made for", async () => {
    const [slow, quick] = [await server(queue("1")), await server(queue("2"))];
    const made = Promise.withResolvers<void>();
    const given = Promise.withResolvers<void>();
    const machine = { name: "machine-1", [Symbol.asyncDispose]: async () => given.resolve() };
    const seen: unknown[] = [];
    const { supervisor } = supervised(
      async ({ job, reservation }) => {
        seen.push([job.id, reservation?.name]);
        // With one slot for both, the second entry's job runs while the machine is made.
        made.resolve();
      },
      {
        openExecutor: ({ name }) =>
          name === "b" ? executorOf() : executorOf({ reserve: () => made.promise.then(() => machine) }),
      },
    );
    supervisor.apply(
      configOf([entryOf(slow.url, "a", { name: "a" }), entryOf(quick.url, "b", { name: "b" })], {
        checkIntervalMs: 10,
      }),
    );
    await given.promise;
    expect(seen.slice(0, 2)).toEqual([
      ["2", undefined],
      ["1", "machine-1"],
    ]);
  });

  test("an executor that has room again is asked at once", async () => {
    const coordinator = await server(queue("1"));
    const ran = Promise.withResolvers<void>();
    let wake = (): void => {};
    let asked = 0;
    const { supervisor } = supervised(async () => ran.resolve(), {
      openExecutor: () =>
        executorOf({
          onRoom: (call) => {
            wake = call;
          },
          reserve: async () => {
            if (asked++ > 0) return { name: "machine-1", [Symbol.asyncDispose]: async () => {} };
            setTimeout(wake, 5);
            return null;
          },
        }),
    });
    // A pause of this length ends only by the event that the test is about.
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { checkIntervalMs: 600_000 }));
    await ran.promise;
    expect(asked).toBe(2);
  });

  test("drops a job that is handed out twice, also one that waits for delivery since an earlier run", async () => {
    const coordinator = await server((_asked, count) =>
      count < 4 ? { job: "7" } : count === 4 ? { job: "old" } : 204,
    );
    const ran: string[] = [];
    const { supervisor, lines } = supervised(
      async ({ job, signal }) => {
        ran.push(job.id);
        await stopped(signal);
      },
      { isPending: (_origin, id) => id === "old" },
    );
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { concurrent: 4 }));
    await coordinator.until(() => coordinator.asked.length > 6);
    expect(ran).toEqual(["7"]);
    expect(lines.filter((line) => line.includes("second time"))).toHaveLength(3);
  });
});

describe("a job", () => {
  test("that nobody caught an error of costs neither its slot nor the others", async () => {
    const coordinator = await server((_asked, count) => ({ job: String(count) }));
    const ran: string[] = [];
    const enough = Promise.withResolvers<void>();
    const { supervisor, lines } = supervised(async ({ job }) => {
      ran.push(job.id);
      if (ran.length === 6) enough.resolve();
      throw new Error(`bug in ${job.id}`);
    });
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { concurrent: 2 }));
    await enough.promise;
    await tick();
    expect(lines.filter((line) => /^<3>.*problem="bug in 1"/.test(line))).toHaveLength(1);
  });

  test("that waits for delivery, perhaps for days, is not kept in memory as a whole", async () => {
    const ids = Array.from({ length: 5 }, (_, index) => String(index));
    const coordinator = await server(queue(...ids));
    const received: WeakRef<object>[] = [];
    const deliveries: PromiseWithResolvers<DeliveryResult>[] = [];
    const { supervisor, board } = supervised(async () => {}, {
      async handleJob({ job }) {
        received.push(new WeakRef(job));
        const delivery = Promise.withResolvers<DeliveryResult>();
        deliveries.push(delivery);
        return { outcome: { result: "success" }, delivered: delivery.promise };
      },
    });
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { checkIntervalMs: 10 }));
    await coordinator.until(() => coordinator.asked.length > 8);
    setFlagsFromString("--expose-gc");
    await expect
      .poll(() => {
        runInNewContext("gc")();
        return received.filter((job) => job.deref() !== undefined).length;
      })
      .toBe(0);
    expect(board.jobs().map(({ progress }) => progress.at)).toEqual(ids.map(() => "delivering"));
    for (const { resolve } of deliveries) resolve("delivered");
    await tick();
    expect(board.jobs()).toEqual([]);
  });

  test("a reload that does not concern an executor keeps it, and closes it after the last job of all versions", async () => {
    const coordinator = await server(queue("1", "2"));
    const opened: string[] = [];
    const closed: string[] = [];
    const ends = new Map<string, () => void>();
    const started = { 1: Promise.withResolvers<Executor>(), 2: Promise.withResolvers<Executor>() };
    const gone = Promise.withResolvers<void>();
    const { supervisor } = supervised(
      async ({ job, executor }) => {
        started[job.id === "1" ? 1 : 2].resolve(executor);
        await new Promise<void>((resolve) => ends.set(job.id, resolve));
      },
      {
        openExecutor: ({ executorFingerprint: words }) => {
          opened.push(words);
          return executorOf({
            close: async () => {
              closed.push(words);
              if (closed.length === 2) gone.resolve();
            },
          });
        },
      },
    );
    const version = (name: string, more: Partial<RunnerConfig> = {}) =>
      configOf([entryOf(coordinator.url, "a", { name, ...more })], { concurrent: 2, checkIntervalMs: 10 });
    supervisor.apply(version("first"));
    const first = await started[1].promise;
    // A new name does not concern the executor.
    supervisor.apply(version("second"));
    expect(await started[2].promise).toBe(first);
    ends.get("1")?.();
    // A change that the executor can take over while it runs does not open another one.
    const taken: Executor[] = [];
    const reconfigure = (executor: Executor) => taken.push(executor) > 0;
    supervisor.apply(version("third", { executorFingerprint: "more machines", reconfigure }));
    expect([opened, taken, closed]).toEqual([["as it was"], [first], []]);
    // For a change that it cannot take over, another executor is opened; the old one stays for its last job.
    supervisor.apply(version("fourth", { executorFingerprint: "elsewhere" }));
    expect([opened, closed]).toEqual([["as it was", "elsewhere"], []]);
    ends.get("2")?.();
    await supervisor.drain();
    await gone.promise;
    expect(closed.toSorted()).toEqual(["as it was", "elsewhere"]);
  });

  test("is known to who asks what the runner is doing, without secrets in the log", async () => {
    const coordinator = await server(queue("42"));
    const started = Promise.withResolvers<ReceivedJob>();
    const { supervisor, board, lines, metrics } = supervised(async (received) => {
      received.board.moved({ at: "running", stage: "build_script" });
      started.resolve(received);
      await stopped(received.signal);
    });
    supervisor.apply(configOf([entryOf(coordinator.url, "a")]));
    const { concurrentId } = await started.promise;
    expect(await concurrentId).toBe(0);
    expect(board.jobs()).toMatchObject([
      { id: "42", title: "group/project: job 42", runner: "id-a", progress: { at: "running", stage: "build_script" } },
    ]);
    expect(await metrics.render()).toContain(
      'ci_runner_builds{runner="id-a",state="running",stage="build_script",executor_stage=""} 1',
    );
    const line = lines.find((one) => one.includes("job received"));
    expect(line).toContain("project=");
    expect(line).toContain("repository=https://git.example.org/group/project.git");
    expect(lines.join("")).not.toMatch(/canary|token-of/);
  });

  test("ends with a SystemFailure when the error that nobody caught was its own", async () => {
    const coordinator = await server(queue("1", "2"));
    const ends: string[] = [];
    const both = Promise.withResolvers<void>();
    const { supervisor } = supervised(async ({ job, signal }) => {
      if (job.id === "1") {
        await tick();
        expect(supervisor.blame(new Error("bug"))).toBe("1");
      } else expect(signal.aborted).toBe(false);
      if (job.id === "1") {
        await stopped(signal);
        ends.push(String(signal.reason));
      }
      if (job.id === "2") both.resolve();
    });
    supervisor.apply(configOf([entryOf(coordinator.url, "a")]));
    await both.promise;
    expect(ends).toEqual([expect.stringContaining("SystemFailure: an unexpected error in the runner")]);
    expect(supervisor.blame(new Error("elsewhere"))).toBeUndefined();
  });
});

describe("a reload", () => {
  test("leaves entries alone that did not change, and jobs of those that did", async () => {
    const coordinator = await server(({ token }, count) =>
      count === 1 && token !== "c" ? { job: `of-${token}` } : 204,
    );
    const opened: string[] = [];
    const closed: string[] = [];
    const running = new Map<string, ReceivedJob>();
    const ends = new Map<string, () => void>();
    const two = Promise.withResolvers<void>();
    const { supervisor, metrics } = supervised(
      async (received) => {
        running.set(received.job.id, received);
        if (running.size === 2) two.resolve();
        const end = Promise.withResolvers<void>();
        ends.set(received.job.id, end.resolve);
        await Promise.race([end.promise, stopped(received.signal)]);
        running.delete(received.job.id);
      },
      {
        openExecutor: (entry) => {
          opened.push(entry.name);
          return executorOf({
            close: async () => {
              closed.push(entry.name);
            },
          });
        },
      },
    );
    const a = entryOf(coordinator.url, "a");
    const b = entryOf(coordinator.url, "b");
    supervisor.apply(configOf([a, b], { concurrent: 4 }));
    await two.promise;
    supervisor.apply(configOf([a, entryOf(coordinator.url, "c")], { concurrent: 4 }));
    await coordinator.until(() => coordinator.of("c").length > 1);
    const askedOfB = coordinator.of("b").length;
    expect(supervisor.polling).toBe(2);
    expect(opened).toEqual(["runner a", "runner b", "runner c"]);
    expect(closed).toEqual([]);
    expect(running.get("of-b")?.signal.aborted).toBe(false);
    expect(running.get("of-b")?.entry).toBe(b);
    expect(await metrics.render()).toContain('runner="id-b"');
    ends.get("of-b")?.();
    while (closed.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(closed).toEqual(["runner b"]);
    expect(coordinator.of("b").length).toBe(askedOfB);
    expect(await metrics.render()).not.toContain('runner="id-b"');
    expect(running.has("of-a")).toBe(true);
  });

  test("keeps counting jobs of a token whose entry changed", async () => {
    const coordinator = await server((_asked, count) => ({ job: String(count) }));
    const running = new Set<string>();
    let most = 0;
    let received = 0;
    const ended = new Set<() => void>();
    const { supervisor } = supervised(async ({ job, signal }) => {
      received++;
      running.add(job.id);
      most = Math.max(most, running.size);
      const end = Promise.withResolvers<void>();
      ended.add(end.resolve);
      await Promise.race([end.promise, stopped(signal)]);
      running.delete(job.id);
    });
    for (let round = 0; round < 20; round++) {
      supervisor.apply(
        configOf([entryOf(coordinator.url, "a", { limit: 2, name: `round ${round}` })], { concurrent: 9 }),
      );
      while (running.size < 2) await new Promise((resolve) => setTimeout(resolve, 2));
      for (const end of [...ended].slice(0, 1 + (round % 2))) {
        ended.delete(end);
        end();
      }
      await tick();
    }
    expect(received).toBeGreaterThan(20);
    expect(most).toBe(2);
  });

  test("takes more and fewer jobs at once as concurrent says", async () => {
    const coordinator = await server((_asked, count) => ({ job: String(count) }));
    const ends: (() => void)[] = [];
    let received = 0;
    const { supervisor, board } = supervised(({ signal }) => {
      received++;
      const end = Promise.withResolvers<void>();
      ends.push(end.resolve);
      return Promise.race([end.promise, stopped(signal)]);
    });
    const entry = entryOf(coordinator.url, "a");
    const running = () => board.jobs().length;
    const until = async (count: number) => {
      while (running() !== count) await new Promise((resolve) => setTimeout(resolve, 2));
    };
    supervisor.apply(configOf([entry], { concurrent: 1 }));
    await until(1);
    supervisor.apply(configOf([entry], { concurrent: 3 }));
    await until(3);
    supervisor.apply(configOf([entry], { concurrent: 2 }));
    ends.shift()?.();
    await until(2);
    expect(received).toBe(3);
    ends.shift()?.();
    while (received < 4) await tick();
    await until(2);
  });

  test("with an entry that cannot be started starts the others", async () => {
    const coordinator = await server(() => 204);
    const { supervisor, lines } = supervised(async () => {}, {
      openExecutor: (entry) => {
        if (entry.token === "bad") throw new Error("no such thing");
        return executorOf();
      },
    });
    supervisor.apply(configOf([entryOf(coordinator.url, "bad"), entryOf(coordinator.url, "good")]));
    await coordinator.until(() => coordinator.of("good").length > 1);
    expect(lines.filter((line) => line.includes('problem="no such thing"'))).toHaveLength(1);
  });
});

describe("the end", () => {
  test("of draining waits for running jobs and for the job of a request under way", async () => {
    const answerNow = Promise.withResolvers<void>();
    const coordinator = await server(async (_asked, count) => {
      if (count === 1) return { job: "first" };
      await answerNow.promise;
      return { job: "last" };
    });
    const ends: string[] = [];
    const first = Promise.withResolvers<void>();
    const { supervisor } = supervised(async ({ job, signal }) => {
      if (job.id === "first") await first.promise;
      ends.push(`${job.id} ${signal.aborted}`);
    });
    supervisor.apply(configOf([entryOf(coordinator.url, "a")], { concurrent: 2 }));
    await coordinator.until(() => coordinator.asked.length === 2);
    let drained = false;
    const draining = supervisor.drain().then(() => {
      drained = true;
    });
    answerNow.resolve();
    while (ends.length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    expect([ends, drained]).toEqual([["last false"], false]);
    first.resolve();
    await draining;
    expect(ends).toEqual(["last false", "first false"]);
    expect(coordinator.asked).toHaveLength(2);
  });

  test("of stopping answers the job of a request under way without running it", async () => {
    const answerNow = Promise.withResolvers<void>();
    const coordinator = await server(async () => {
      await answerNow.promise;
      return { job: "late" };
    });
    const seen: unknown[] = [];
    const { supervisor, stopping } = supervised(async ({ signal }) => {
      seen.push(signal.reason);
    });
    supervisor.apply(configOf([entryOf(coordinator.url, "a")]));
    await coordinator.until(() => coordinator.asked.length === 1);
    stopping.abort(new Stop("shutting_down", "stop"));
    const draining = supervisor.drain();
    answerNow.resolve();
    await draining;
    expect(seen).toMatchObject([{ why: "shutting_down" }]);
  });

  test("does not wait for ever for a coordinator that hangs", async () => {
    const coordinator = await server(() => () => {});
    const { supervisor } = supervised(async () => {});
    supervisor.apply(configOf([entryOf(coordinator.url, "a"), entryOf(coordinator.url, "b")], { concurrent: 2 }));
    await coordinator.until(() => coordinator.asked.length === 2);
    await supervisor.drain();
    supervisor.apply(configOf([entryOf(coordinator.url, "c")]));
    expect(supervisor.polling).toBe(0);
  });
});

test("limits hold and no slot is lost in any order of jobs, errors and reloads", async () => {
  let jobs = 0;
  const coordinator = await server(() => {
    const luck = Math.random();
    if (luck < 0.6) return { job: String(++jobs) };
    if (luck < 0.7) return 500;
    if (luck < 0.75) return 409;
    return 204;
  });
  const running = new Map<string, number>();
  const problems: string[] = [];
  let total = 0;
  let concurrent = 3;
  let highest = 3;
  const { supervisor } = supervised(async ({ entry, concurrentId: soon, signal }) => {
    const concurrentId = await soon;
    const mine = (running.get(entry.id) ?? 0) + 1;
    running.set(entry.id, mine);
    const all = [...running.values()].reduce((sum, count) => sum + count, 0);
    if (all > highest) problems.push(`${all} jobs at once, ${highest} allowed`);
    if (mine > entry.limit) problems.push(`${mine} jobs of ${entry.id}, ${entry.limit} allowed`);
    if (concurrentId >= Math.min(entry.limit, 5)) problems.push(`number ${concurrentId} of ${entry.id}`);
    total++;
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, Math.random() * 8));
    running.set(entry.id, (running.get(entry.id) ?? 1) - 1);
    if (Math.random() < 0.1) throw new Error("bug");
  });
  for (let round = 0; round < 30; round++) {
    const previous = concurrent;
    concurrent = 1 + (round % 5);
    highest = Math.max(previous, concurrent, 5);
    const entries = ["a", "b", "c"].map((token, index) =>
      entryOf(coordinator.url, token, { limit: index + 1, name: Math.random() < 0.7 ? "same" : `changed ${round}` }),
    );
    supervisor.apply(configOf(round % 3 === 0 ? entries.slice(1) : entries, { concurrent, checkIntervalMs: 5 }));
    const before = coordinator.asked.length;
    await coordinator.until(() => coordinator.asked.length > before + 15);
  }
  await supervisor.drain();
  expect(problems).toEqual([]);
  expect(total).toBe(jobs);
  expect([...running.values()].every((count) => count === 0)).toBe(true);
});
