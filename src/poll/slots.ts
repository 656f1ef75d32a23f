/** Whose jobs are counted together: all entries with one token. */
export interface SlotWish {
  /** Stands for the token: `RunnerConfig.id`. */
  readonly token: string;
  /** Jobs of the token at once, requests under way included; may be Infinity. */
  readonly limit: number;
  /** Requests of the token at once. */
  readonly requestConcurrency: number;
  /** What a job of it counts against the weight that all may have together; 1 by default. */
  readonly weight?: number;
}

/**
 * Room for one request and for the job that it may bring: taken before the request, so that a job that was handed out
 * can always run. Ends with `release`, whatever became of it; a second call does nothing.
 */
export interface Slot {
  /**
   * The request takes long: others may use the room meanwhile. Should it still bring a job, that job comes before all new
   * requests, and waits in `run` if it must: `concurrent` holds also for coordinators that hang.
   */
  lend(): void;
  /**
   * The request brought a job. Resolves with the lowest number that no other running job of the token has, as soon as the
   * job may run: at once unless the room was lent. Once `signal` has fired there is no waiting, as nothing will run.
   */
  run(signal: AbortSignal): Promise<number>;
  release(): void;
}

export interface Slots {
  /** Waits for room, first come, first served; who is held back by a limit of its own token holds nobody else back. */
  acquire(wish: SlotWish, signal: AbortSignal): Promise<Slot>;
  /**
   * A job that runs already, whatever may run at once. `number`: that of its token which it has, if nobody else does. `run` answers
   * with its number.
   */
  occupy(wish: SlotWish, number: number): Slot;
  /** A reload changed `concurrent`. Below the number of running jobs nothing is taken away, only nothing is added. */
  setConcurrent(concurrent: number): void;
  /** A reload changed `max_weight`; what holds for `setConcurrent` does for this, too. May be Infinity. */
  setMaxWeight(maxWeight: number): void;
  /** Room that is neither taken nor reserved; negative after `concurrent` went down. */
  readonly free: number;
  /** Requests that wait for room. */
  readonly waiting: number;
  /** Jobs that may run now. */
  readonly running: number;
  /** Requests under way of this token. */
  requests(token: string): number;
  /** What `acquire` would wait for; `null`: for nothing. */
  held(wish: SlotWish): Held | null;
}

/** What there is as much of as there may be, and how much that is. */
export interface Held {
  readonly held: "concurrent" | "weight" | "limit" | "requests";
  readonly most: number;
}

interface TokenCount {
  jobs: number;
  requests: number;
  readonly numbers: Set<number>;
}

/** A job that came on a lent slot. */
interface Received {
  readonly weight: number;
  start(): void;
}

interface Waiter {
  readonly wish: SlotWish;
  grant(slot: Slot): void;
}

/**
 * Counts jobs over all (`concurrent`), jobs per token (`limit`) and requests per token (`request_concurrency`).
 * Pure bookkeeping: no timers, no clock.
 */
export function createSlots(firstConcurrent: number): Slots {
  let concurrent = firstConcurrent;
  let running = 0;
  let reserved = 0;
  let maxWeight = Number.POSITIVE_INFINITY;
  /** Of all that run or are reserved. */
  let weight = 0;
  const tokens = new Map<string, TokenCount>();
  const requesters = new Set<Waiter>();
  /** Jobs that came on a lent slot; they go first. */
  const received = new Set<Received>();

  const free = (): number => concurrent - running - reserved;
  /** Whether there is room for so much. What is heavier than all may be together has room where nothing else is. */
  const bears = (more: number): boolean => free() > 0 && (weight === 0 || weight + more <= maxWeight);

  const count = (token: string): TokenCount => {
    const known = tokens.get(token);
    if (known !== undefined) return known;
    const fresh = { jobs: 0, requests: 0, numbers: new Set<number>() };
    tokens.set(token, fresh);
    return fresh;
  };

  const fits = ({ token, limit, requestConcurrency, weight: more = 1 }: SlotWish): boolean => {
    const { jobs, requests } = tokens.get(token) ?? { jobs: 0, requests: 0 };
    return bears(more) && received.size === 0 && jobs + requests < limit && requests < requestConcurrency;
  };

  const settle = (): void => {
    for (const one of received) {
      if (!bears(one.weight)) return;
      received.delete(one);
      one.start();
    }
    for (const waiter of requesters) {
      if (free() <= 0) return;
      if (!fits(waiter.wish)) continue;
      requesters.delete(waiter);
      waiter.grant(reserve(waiter.wish));
    }
  };

  const reserve = ({ token, weight: mine = 1 }: SlotWish, wanted?: number): Slot => {
    const counted = count(token);
    let state: "reserved" | "lent" | "waiting" | "running" | "released" = "reserved";
    let number = -1;
    let withdraw = (): void => {};
    reserved++;
    weight += mine;
    counted.requests++;

    const start = (): number => {
      state = "running";
      running++;
      weight += mine;
      number = wanted === undefined || counted.numbers.has(wanted) ? 0 : wanted;
      while (counted.numbers.has(number)) number++;
      counted.numbers.add(number);
      return number;
    };

    const begin = (): number => {
      counted.requests--;
      counted.jobs++;
      reserved--;
      weight -= mine;
      return start();
    };
    if (wanted !== undefined) begin();

    return {
      lend() {
        if (state !== "reserved") return;
        state = "lent";
        reserved--;
        weight -= mine;
        settle();
      },
      run(signal) {
        if (wanted !== undefined && state === "running") return Promise.resolve(number);
        if (state !== "reserved" && state !== "lent") return Promise.reject(new Error(`a slot cannot run: ${state}`));
        if (state === "reserved") {
          const number = begin();
          settle();
          return Promise.resolve(number);
        }
        counted.requests--;
        counted.jobs++;
        if (bears(mine) || signal.aborted) {
          const number = start();
          settle();
          return Promise.resolve(number);
        }
        state = "waiting";
        return new Promise((resolve) => {
          const go = (): void => {
            withdraw();
            resolve(start());
          };
          const one: Received = { weight: mine, start: go };
          withdraw = () => {
            received.delete(one);
            signal.removeEventListener("abort", go);
          };
          received.add(one);
          signal.addEventListener("abort", go, { once: true });
          settle();
        });
      },
      release() {
        if (state === "released") return;
        if (state === "reserved" || state === "lent") counted.requests--;
        else counted.jobs--;
        if (state === "reserved") reserved--;
        if (state === "reserved" || state === "running") weight -= mine;
        if (state === "waiting") withdraw();
        if (state === "running") {
          running--;
          counted.numbers.delete(number);
        }
        state = "released";
        if (counted.jobs + counted.requests === 0 && tokens.get(token) === counted) tokens.delete(token);
        settle();
      },
    };
  };

  return {
    acquire(wish, signal) {
      if (signal.aborted) return Promise.reject(signal.reason);
      if (fits(wish)) return Promise.resolve(reserve(wish));
      return new Promise((resolve, reject) => {
        const onAbort = (): void => {
          requesters.delete(waiter);
          reject(signal.reason);
        };
        const waiter: Waiter = {
          wish,
          grant: (slot) => {
            signal.removeEventListener("abort", onAbort);
            resolve(slot);
          },
        };
        requesters.add(waiter);
        signal.addEventListener("abort", onAbort, { once: true });
      });
    },
    occupy: (wish, number) => reserve(wish, number),
    setConcurrent(next) {
      concurrent = next;
      settle();
    },
    setMaxWeight(next) {
      maxWeight = next;
      settle();
    },
    get free() {
      return free();
    },
    get waiting() {
      return requesters.size;
    },
    get running() {
      return running;
    },
    requests: (token) => tokens.get(token)?.requests ?? 0,
    held(wish) {
      if (fits(wish)) return null;
      const { token, limit, requestConcurrency } = wish;
      if ((tokens.get(token)?.jobs ?? 0) >= limit) return { held: "limit", most: limit };
      if (free() <= 0) return { held: "concurrent", most: concurrent };
      if (!bears(wish.weight ?? 1)) return { held: "weight", most: maxWeight };
      if (received.size > 0) return { held: "concurrent", most: concurrent };
      return { held: "requests", most: requestConcurrency };
    },
  };
}
