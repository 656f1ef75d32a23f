import { describe, expect, test } from "vitest";
import { createSlots, type Slot } from "../../src/poll/slots.ts";
import { never } from "../../src/time.ts";

const wish = (token: string, limit = Number.POSITIVE_INFINITY, requestConcurrency = 1) => ({
  token,
  limit,
  requestConcurrency,
});

/** Lets all promises that can settle do so. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** Collects what was granted, in order. */
function line(slots: ReturnType<typeof createSlots>) {
  const granted: { token: string; slot: Slot }[] = [];
  return {
    granted,
    get order() {
      return granted.map(({ token }) => token).join("");
    },
    want(token: string, limit?: number, requestConcurrency?: number, signal = never) {
      slots.acquire(wish(token, limit, requestConcurrency), signal).then(
        (slot) => granted.push({ token, slot }),
        () => {},
      );
    },
  };
}

describe("slots", () => {
  test("come in the order of the asking, and a token at its own limit holds nobody back", async () => {
    const slots = createSlots(1);
    const queue = line(slots);
    queue.want("a");
    queue.want("a");
    queue.want("b", 0);
    queue.want("c");
    queue.want("d");
    await settled();
    expect(queue.order).toBe("a");
    expect(slots.waiting).toBe(4);
    for (let turn = 0; turn < 4; turn++) {
      queue.granted.at(-1)?.slot.release();
      await settled();
    }
    expect(queue.order).toBe("aacd");
    expect(slots.waiting).toBe(1);
    expect(slots.free).toBe(1);
  });

  test("carry the lowest number that no other job of the token has", async () => {
    const slots = createSlots(10);
    const take = async (token: string) => {
      const slot = await slots.acquire(wish(token), never);
      return { slot, number: await slot.run(never) };
    };
    const first = await take("a");
    const second = await take("a");
    const other = await take("b");
    expect([first.number, second.number, other.number]).toEqual([0, 1, 0]);
    const waiting = await slots.acquire(wish("a"), never);
    first.slot.release();
    expect(await waiting.run(never)).toBe(0);
    expect((await take("a")).number).toBe(2);
  });

  test("of a token count requests under way against its limit", async () => {
    const slots = createSlots(10);
    const queue = line(slots);
    queue.want("a", 2, 5);
    queue.want("a", 2, 5);
    queue.want("a", 2, 5);
    await settled();
    expect(queue.order).toBe("aa");
    expect(slots.requests("a")).toBe(2);
    await queue.granted[0]?.slot.run(never);
    await settled();
    expect(queue.order).toBe("aa");
    queue.granted[1]?.slot.release();
    await settled();
    expect(queue.order).toBe("aaa");
  });

  test("follow concurrent up and down without taking anything away", async () => {
    const slots = createSlots(1);
    const queue = line(slots);
    for (const token of "abcd") queue.want(token);
    await settled();
    expect(queue.order).toBe("a");
    slots.setConcurrent(3);
    await settled();
    expect(queue.order).toBe("abc");
    slots.setConcurrent(1);
    expect(slots.free).toBe(-2);
    queue.granted[0]?.slot.release();
    queue.granted[1]?.slot.release();
    await settled();
    expect(queue.order).toBe("abc");
    queue.granted[2]?.slot.release();
    await settled();
    expect(queue.order).toBe("abcd");
  });

  test("that are lent let others ask; a job that still arrives waits, before all others", async () => {
    const slots = createSlots(1);
    const queue = line(slots);
    queue.want("a");
    queue.want("b");
    await settled();
    const hanging = queue.granted[0]?.slot;
    hanging?.lend();
    await settled();
    expect(queue.order).toBe("ab");
    await queue.granted[1]?.slot.run(never);
    let late = false;
    void hanging?.run(never).then(() => {
      late = true;
    });
    queue.want("c");
    await settled();
    expect(late).toBe(false);
    expect(slots.running).toBe(1);
    queue.granted[1]?.slot.release();
    await settled();
    expect(late).toBe(true);
    expect(queue.order).toBe("ab");
    hanging?.release();
    await settled();
    expect(queue.order).toBe("abc");
  });

  test("wait no longer once the signal has fired", async () => {
    const slots = createSlots(1);
    const queue = line(slots);
    const stop = new AbortController();
    queue.want("a");
    queue.want("b", undefined, undefined, stop.signal);
    queue.want("c");
    await settled();
    stop.abort(new Error("stop"));
    queue.granted[0]?.slot.release();
    await settled();
    expect(queue.order).toBe("ac");
    await expect(slots.acquire(wish("d"), stop.signal)).rejects.toThrow("stop");
    const lent = queue.granted[1]?.slot;
    lent?.lend();
    queue.want("e");
    await settled();
    expect(queue.order).toBe("ace");
    expect(await lent?.run(stop.signal)).toBe(0);
  });

  test("are released once, whoever calls twice", async () => {
    const slots = createSlots(2);
    const slot = await slots.acquire(wish("a"), never);
    await slot.run(never);
    slot.release();
    slot.release();
    slot.lend();
    expect(slots.free).toBe(2);
    await expect(slot.run(never)).rejects.toThrow(/released/);
    expect(slots.free).toBe(2);
  });

  test("keep every limit and never leak, in any order of events", async () => {
    for (let seed = 1; seed <= 30; seed++) await randomSchedule(seed);
  });
});

/** Thousands of steps of tokens that ask, lend, run, release and give up, checked by counters of its own. */
async function randomSchedule(seed: number) {
  let state = seed * 2_654_435_761;
  const random = (below: number) => {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_519) + 0x9e3779b9) | 0;
    return (state >>> 1) % below;
  };
  let concurrent = 1 + random(4);
  let lowestSince = concurrent;
  const slots = createSlots(concurrent);
  const tokens = Array.from({ length: 5 }, (_, index) => ({
    name: `t${index}`,
    limit: index === 0 ? Number.POSITIVE_INFINITY : 1 + random(3),
    requestConcurrency: 1 + random(2),
  }));
  type Held = {
    token: (typeof tokens)[number];
    slot: Slot;
    state: "asking" | "lent" | "starting" | "running";
    number: number;
  };
  const held = new Set<Held>();
  const waits = new Set<AbortController>();

  const check = () => {
    const all = [...held];
    const running = all.filter(({ state }) => state === "running");
    const asking = all.filter(({ state }) => state === "asking");
    // Lowering `concurrent` ends nothing: until enough jobs have ended, only the higher limit of before holds.
    expect(running.length + asking.length).toBeLessThanOrEqual(Math.max(concurrent, lowestSince));
    for (const token of tokens) {
      const mine = all.filter((one) => one.token === token);
      expect(mine.length, "limit").toBeLessThanOrEqual(token.limit);
      expect(
        mine.filter(({ state }) => state === "asking" || state === "lent").length,
        "request_concurrency",
      ).toBeLessThanOrEqual(token.requestConcurrency);
      const numbers = mine.filter(({ state }) => state === "running").map(({ number }) => number);
      expect(new Set(numbers).size, "numbers").toBe(numbers.length);
    }
    lowestSince = Math.max(concurrent, running.length + asking.length);
  };

  for (let step = 0; step < 400; step++) {
    const one = [...held][random(Math.max(held.size, 1))];
    switch (random(8)) {
      case 0:
      case 1:
      case 2: {
        const token = tokens[random(tokens.length)];
        if (token === undefined) break;
        const wait = new AbortController();
        waits.add(wait);
        slots
          .acquire(wish(token.name, token.limit, token.requestConcurrency), wait.signal)
          .then((slot) => held.add({ token, slot, state: "asking", number: -1 }))
          .catch(() => {})
          .finally(() => waits.delete(wait));
        break;
      }
      case 3:
        if (one?.state === "asking" || one?.state === "lent") {
          one.state = "starting";
          void one.slot.run(never).then((number) => {
            one.number = number;
            one.state = "running";
          });
        }
        break;
      case 4:
      case 5:
        if (one !== undefined && one.state !== "starting") {
          held.delete(one);
          one.slot.release();
        }
        break;
      case 6:
        if (one?.state === "asking") {
          one.state = "lent";
          one.slot.lend();
        }
        break;
      default:
        if (random(3) === 0) {
          concurrent = 1 + random(5);
          slots.setConcurrent(concurrent);
        } else [...waits][random(Math.max(waits.size, 1))]?.abort();
    }
    await settled();
    check();
  }

  for (const wait of waits) wait.abort();
  slots.setConcurrent(100);
  for (let turn = 0; turn < 3; turn++) {
    await settled();
    for (const one of held) {
      if (one.state === "starting") continue;
      held.delete(one);
      one.slot.release();
    }
  }
  expect(held.size).toBe(0);
  expect([slots.free, slots.waiting, slots.running]).toEqual([100, 0, 0]);
  for (const { name } of tokens) {
    const slot = await slots.acquire(wish(name), never);
    expect(await slot.run(never)).toBe(0);
    slot.release();
  }
}

describe("weight", () => {
  const wish = (token: string, weight: number) => ({ token, limit: 9, requestConcurrency: 9, weight });

  test("jobs run together only as far as they weigh no more than may be", async () => {
    const slots = createSlots(10);
    slots.setMaxWeight(5);
    const heavy = await slots.acquire(wish("a", 3), never);
    await heavy.run(never);
    expect(slots.held(wish("b", 3))).toEqual({ held: "weight", most: 5 });
    let came = false;
    const waiting = slots.acquire(wish("b", 3), never).then((slot) => {
      came = true;
      return slot;
    });
    // What is light enough does not wait behind it.
    const light = await slots.acquire(wish("c", 2), never);
    heavy.release();
    await waiting;
    expect(came).toBe(true);
    light.release();
  });

  test("what is heavier than all may be together runs alone", async () => {
    const slots = createSlots(10);
    slots.setMaxWeight(5);
    const giant = await slots.acquire(wish("a", 8), never);
    expect(slots.held(wish("b", 1))).toEqual({ held: "weight", most: 5 });
    giant.release();
    expect(slots.held(wish("b", 1))).toBeNull();
  });

  test("a job that came on a lent slot waits until there is room for its weight", async () => {
    const slots = createSlots(10);
    slots.setMaxWeight(4);
    const lent = await slots.acquire(wish("a", 3), never);
    lent.lend();
    const other = await slots.acquire(wish("b", 3), never);
    await other.run(never);
    let runs = false;
    const running = lent.run(never).then(() => {
      runs = true;
    });
    expect(slots.held(wish("c", 1))).not.toBeNull();
    expect(runs).toBe(false);
    other.release();
    await running;
    lent.release();
    expect(slots.held(wish("c", 4))).toBeNull();
  });

  test("of jobs that run already are taken whatever the limits say, and nobody else gets room or their numbers", async () => {
    const slots = createSlots(1);
    const [first, second] = [slots.occupy(wish("a", 1), 4), slots.occupy(wish("a", 1), 4)];
    expect([await first.run(never), await second.run(never)]).toEqual([4, 0]);
    expect([slots.running, slots.free, slots.requests("a")]).toEqual([2, -1, 0]);
    const queue = line(slots);
    queue.want("a", 1);
    queue.want("b");
    first.release();
    await settled();
    expect(queue.order).toBe("");
    second.release();
    second.release();
    await settled();
    expect([queue.order, slots.running]).toEqual(["a", 0]);
  });
});
