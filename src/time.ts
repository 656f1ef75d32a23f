import { setImmediate as nextTurn, setTimeout as wait } from "node:timers/promises";
import { SystemFailure } from "./errors.ts";

/** Longest delay that Node's timers can hold; a longer one would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A signal that never fires, for work that only its own limit may end. */
export const never: AbortSignal = new AbortController().signal;

export interface Deadline extends Disposable {
  readonly signal: AbortSignal;
}

/**
 * A signal that fires with `parent`, or with `reason` after `ms`. The timer ends with the block (`using`).
 * It owns its timer because a signal out of `AbortSignal.any([AbortSignal.timeout(ms)])` can be garbage-collected unfired.
 * `ms` of any size is kept: longer than a timer can hold is split. Time is monotonic: a stepped clock moves nothing.
 */
export function deadline(parent: AbortSignal, ms: number, reason: Error): Deadline {
  const controller = new AbortController();
  const end = performance.now() + ms;
  let timer: NodeJS.Timeout | undefined;
  const onParent = (): void => {
    clearTimeout(timer);
    controller.abort(parent.reason);
  };
  const arm = (): void => {
    const left = end - performance.now();
    if (left <= 0) {
      parent.removeEventListener("abort", onParent);
      controller.abort(reason);
    } else timer = setTimeout(arm, Math.min(Math.ceil(left), LONGEST_TIMER_MS));
  };
  if (parent.aborted) controller.abort(parent.reason);
  else {
    parent.addEventListener("abort", onParent, { once: true });
    if (Number.isFinite(ms)) arm();
  }
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      parent.removeEventListener("abort", onParent);
    },
  };
}

/** So much work is done in one turn of the event loop: whoever scrapes, polls or cancels waits no longer. */
const TURN_MS = 15;

/**
 * Long work in turns: `await turn()` after each small part of it. Costs next to nothing but where a turn has been long.
 * The parts themselves may wait for nothing, or for what is there already: other work gets its turn all the same.
 */
export function createTurns(): () => Promise<void> | undefined {
  let startedAt = performance.now();
  return () => {
    if (performance.now() - startedAt < TURN_MS) return undefined;
    return nextTurn().then(() => {
      startedAt = performance.now();
    });
  };
}

/** Wait `ms`; rejects with `signal.reason` as soon as the signal fires. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const end = performance.now() + ms;
  for (let left = ms; left > 0; left = end - performance.now()) {
    try {
      await wait(Math.min(left, LONGEST_TIMER_MS), undefined, { signal });
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    }
  }
}

/** `work`, or the signal's reason as soon as that has fired: what then becomes of `work` is nobody's concern any more. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  work.catch(() => {});
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** All of them, or the first failure once none is under way any more: nothing is made behind the back of a clean-up. */
export async function all<T extends readonly unknown[]>(
  promises: readonly [...{ [K in keyof T]: Promise<T[K]> }],
): Promise<T> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}

export interface BackoffOptions {
  readonly firstMs?: number;
  readonly maxMs?: number;
}

/** Growing, jittered waits: `next()` is between half and all of the current step, which doubles up to `maxMs`. */
export function backoff({ firstMs = 1000, maxMs = 60_000 }: BackoffOptions = {}): { next(): number; reset(): void } {
  let step = firstMs;
  return {
    next() {
      const current = step;
      step = Math.min(step * 2, maxMs);
      return current / 2 + Math.random() * (current / 2);
    },
    reset() {
      step = firstMs;
    },
  };
}

export interface RetryOptions extends BackoffOptions {
  /** Tries in total, at least one; a function where that depends on how the last one failed. */
  readonly attempts: number | ((error: unknown) => number);
  /** The shortest wait after this error: what a server asks for. */
  readonly leastMs?: (error: unknown) => number;
  /** Told before each wait; `attempt` is the one that failed, from 1. */
  readonly onRetry?: (error: unknown, attempt: number, waitMs: number) => void;
  /** Whether this error may go away. The default obeys `SystemFailure.retry` and gives up on anything else. */
  readonly retryable?: (error: unknown) => boolean;
}

/** Run `body` until it succeeds, its error is final, or `attempts` are used up. Never waits after the last try. */
export async function retry<T>(
  options: RetryOptions,
  body: (attempt: number) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const { attempts, leastMs, onRetry, retryable = (error) => error instanceof SystemFailure && error.retry } = options;
  const waits = backoff(options);
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted();
    try {
      return await body(attempt);
    } catch (error) {
      const most = typeof attempts === "number" ? attempts : attempts(error);
      if (signal.aborted || attempt >= most || !retryable(error)) throw error;
      const waitMs = Math.max(waits.next(), leastMs?.(error) ?? 0);
      onRetry?.(error, attempt, waitMs);
      await pause(waitMs, signal);
    }
  }
}
