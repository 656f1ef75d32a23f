import type { AnswerKind } from "../../coordinator/contract.ts";
import { describeError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { backoff } from "../../time.ts";
import type { DeliveryResult } from "../contract.ts";
import type { Attempt, Deliver } from "./attempt.ts";

/** One result on its way. */
interface Parcel {
  readonly deliver: Deliver;
  expired(): boolean;
  /** Settles the delivery, once: no attempt follows. */
  settle(result: DeliveryResult): void;
}

export interface LaneTiming {
  /** Attempts at the same time. */
  readonly parallel: number;
  /** Growing waits of one result that fails while others go through. */
  readonly firstMs: number;
  readonly maxMs: number;
  /** Longest wait between probes of a coordinator that is away. */
  readonly probeMaxMs: number;
  /** How often an outage that lasts is spoken of. */
  readonly remindMs: number;
}

export interface LaneOptions {
  readonly origin: string;
  readonly log: Log;
  readonly timing: LaneTiming;
}

/** All results for one coordinator: a few at a time while it answers, one probe at a time while it does not. */
export interface Lane {
  add(parcel: Parcel): void;
  /** The coordinator answered somebody. */
  answered(): void;
  close(signal: AbortSignal): Promise<void>;
}

/** What is known of a parcel between its attempts. */
interface Course {
  readonly waits: ReturnType<typeof backoff>;
  failures: number;
  waitMs: number;
  timer: NodeJS.Timeout | undefined;
}

interface Outage {
  readonly since: number;
  /** `Retry-After` of the last answer. */
  askedMs: number;
  remindAt: number;
  /** The log has heard of it: one that the first probe ends is not worth a line. */
  spoken: boolean;
  failures: number;
  readonly waits: ReturnType<typeof backoff>;
  timer: NodeJS.Timeout | undefined;
}

/** Different results that fail one after the other with nothing going through in between are an outage. */
const FAILING_IN_A_ROW = 3;
const LONGEST_RETRY_AFTER_MS = 300_000;

export function createLane({ origin, log, timing }: LaneOptions): Lane {
  const courses = new Map<Parcel, Course>();
  const ready = new Set<Parcel>();
  const active = new Map<Parcel, Promise<void>>();
  const failing = new Set<Parcel>();
  const stop = new AbortController();
  let retriesActive = 0;
  let outage: Outage | null = null;
  let lastSpokenAt = Number.NEGATIVE_INFINITY;
  let closing = false;

  function add(parcel: Parcel): void {
    if (closing) {
      parcel.settle("kept");
      return;
    }
    courses.set(parcel, { waits: backoff(timing), failures: 0, waitMs: 0, timer: undefined });
    ready.add(parcel);
    pump();
  }

  function pump(): void {
    if (outage !== null) return;
    for (const parcel of ready) {
      if (active.size >= timing.parallel) return;
      // Results that keep failing, perhaps by hanging until they time out, leave room for the others.
      const isRetry = (courses.get(parcel)?.failures ?? 0) > 1;
      if (isRetry && retriesActive >= Math.max(1, timing.parallel >> 1)) continue;
      start(parcel);
    }
  }

  function start(parcel: Parcel): void {
    const course = courses.get(parcel);
    if (course === undefined) return;
    clearTimeout(course.timer);
    course.timer = undefined;
    ready.delete(parcel);
    const isRetry = course.failures > 1;
    if (isRetry) retriesActive++;
    active.set(
      parcel,
      parcel
        .deliver(stop.signal)
        .catch((error: unknown): Attempt => unexpected(error))
        .then((attempt) => {
          active.delete(parcel);
          if (isRetry) retriesActive--;
          conclude(parcel, course, attempt);
          if (outage !== null) attend(outage);
          pump();
        }),
    );
  }

  function unexpected(error: unknown): Attempt {
    log.error(`a delivery to ${origin} failed unexpectedly`, { problem: describeError(error) });
    return { kind: "trouble", message: describeError(error), why: "ours", retryAfterMs: 0 };
  }

  function conclude(parcel: Parcel, course: Course, attempt: Attempt): void {
    switch (attempt.kind) {
      case "settled":
        end(parcel, attempt.result);
        up();
        break;
      case "stopped":
        end(parcel, "kept");
        break;
      case "later":
        course.failures = 0;
        course.waits.reset();
        up();
        if (closing) end(parcel, "kept");
        // One that always asks for more time would be asked for ever.
        else if (attempt.afterMs > 0 && parcel.expired()) end(parcel, "expired");
        else wait(parcel, course, attempt.afterMs);
        break;
      case "trouble": {
        course.failures++;
        const askedMs = Math.min(attempt.retryAfterMs, LONGEST_RETRY_AFTER_MS);
        if (parcel.expired()) end(parcel, "expired");
        else if (closing) end(parcel, "kept");
        else wait(parcel, course, Math.max(course.waits.next(), askedMs));
        if (attempt.why !== "ours") doubt(parcel, { why: attempt.why, message: attempt.message, askedMs });
      }
    }
  }

  /** One result failed: is it the coordinator? */
  function doubt(parcel: Parcel, answer: { why: AnswerKind; message: string; askedMs: number }): void {
    const { why, message, askedMs } = answer;
    if (courses.has(parcel)) failing.add(parcel);
    const isAway = why === "silent" || why === "away" || why === "busy" || failing.size >= FAILING_IN_A_ROW;
    if (closing && isAway) {
      keepAll();
      return;
    }
    if (outage === null && !isAway) return;
    const now = performance.now();
    outage ??= {
      since: now,
      askedMs: 0,
      remindAt: now + timing.remindMs,
      spoken: false,
      failures: 0,
      waits: backoff({ firstMs: timing.firstMs, maxMs: timing.probeMaxMs }),
      timer: undefined,
    };
    outage.failures++;
    outage.askedMs = askedMs;
    if (outage.failures === 2 && now - lastSpokenAt > timing.remindMs / 10) {
      outage.spoken = true;
      lastSpokenAt = now;
      log.warn(`${origin} takes no results: ${message}; ${courses.size} wait and are delivered when it does`);
    } else if (now >= outage.remindAt) {
      outage.spoken = true;
      outage.remindAt = now + timing.remindMs;
      const minutes = Math.round((now - outage.since) / 60_000);
      log.warn(`${origin} has taken no results for ${minutes} min: ${message}; ${courses.size} wait`);
    }
  }

  function end(parcel: Parcel, result: DeliveryResult): void {
    clearTimeout(courses.get(parcel)?.timer);
    courses.delete(parcel);
    ready.delete(parcel);
    failing.delete(parcel);
    parcel.settle(result);
  }

  function keepAll(): void {
    for (const parcel of [...courses.keys()]) if (!active.has(parcel)) end(parcel, "kept");
  }

  function wait(parcel: Parcel, course: Course, waitMs: number): void {
    course.waitMs = waitMs;
    clearTimeout(course.timer);
    course.timer = setTimeout(() => {
      course.timer = undefined;
      ready.add(parcel);
      pump();
    }, waitMs);
  }

  /** Probes while the outage lasts, one attempt at a time. Attempts that were under way when it began end by themselves. */
  function attend(current: Outage): void {
    if (courses.size === 0) quiet();
    else if (current.timer === undefined && active.size === 0) {
      current.timer = setTimeout(probe, Math.max(current.waits.next(), current.askedMs));
    }
  }

  function probe(): void {
    if (outage === null) return;
    outage.timer = undefined;
    for (const parcel of [...courses.keys()]) if (parcel.expired()) end(parcel, "expired");
    // In turn, the one that was tried longest ago first: a result that fails for its own sake hides no recovery.
    const next = courses.entries().next().value;
    if (next === undefined) {
      quiet();
      return;
    }
    const [parcel, course] = next;
    courses.delete(parcel);
    courses.set(parcel, course);
    start(parcel);
  }

  function up(): void {
    failing.clear();
    if (outage === null) return;
    const { since, spoken } = outage;
    const lastedMs = performance.now() - since;
    quiet();
    const seconds = Math.round(lastedMs / 1000);
    if (spoken) log.info(`${origin} takes results again after ${seconds} s; ${courses.size} more are delivered now`);
    for (const [parcel, course] of courses) {
      if (active.has(parcel)) continue;
      // A result that waits longer than the outage lasted has another reason to wait.
      if (course.timer !== undefined && course.waitMs > 2 * lastedMs) continue;
      clearTimeout(course.timer);
      course.timer = undefined;
      ready.add(parcel);
    }
  }

  function quiet(): void {
    clearTimeout(outage?.timer);
    outage = null;
  }

  return {
    add,
    answered() {
      if (outage === null || closing) return;
      up();
      pump();
    },
    async close(signal) {
      closing = true;
      if (outage !== null) {
        quiet();
        keepAll();
      }
      for (const parcel of [...courses.keys()]) if (!active.has(parcel) && !ready.has(parcel)) end(parcel, "kept");
      const onAbort = (): void => {
        stop.abort(signal.reason);
        for (const parcel of [...ready]) end(parcel, "kept");
      };
      signal.addEventListener("abort", onAbort, { once: true });
      if (signal.aborted) onAbort();
      pump();
      while (active.size > 0) await Promise.all(active.values());
      signal.removeEventListener("abort", onAbort);
    },
  };
}
