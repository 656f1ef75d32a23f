import type { JobUsage } from "../job/job.ts";
import { deadline, never, unlessAborted } from "../time.ts";
import type { LiveUsage } from "./contract.ts";

/** What a job uses, now. */
export type Gauge = () => Promise<LiveUsage>;

/** One measurement serves all who ask until then. */
const FRESH_MS = 900;
/** The time between two measurements is that many times what one takes: a slow engine is not kept busy by being looked at. */
const REST = 10;
/** Whoever asks is not kept waiting for longer: the next time there is an answer. */
const PATIENCE_MS = 250;
/** An older measurement says nothing about now. */
const STALE_MS = 15_000;

interface Measured {
  readonly at: number;
  readonly tookMs: number;
  readonly usage: LiveUsage;
}

/** Measures by `read` when it is asked, and not more often than that is worth. */
export function createGauge(read: () => Promise<JobUsage>, now = (): number => performance.now()): Gauge {
  let last: Measured | null = null;
  let reading: Promise<void> | null = null;

  const measure = async (): Promise<void> => {
    const startedAt = now();
    const usage = await read().catch((): JobUsage => ({}));
    const at = now();
    last = { at, tookMs: at - startedAt, usage: { ...usage, ...percent(last, usage, at) } };
  };
  return async () => {
    if (last === null || now() - last.at >= Math.max(FRESH_MS, REST * last.tookMs)) {
      reading ??= measure().finally(() => {
        reading = null;
      });
      using limit = deadline(never, PATIENCE_MS, new Error("no answer yet"));
      await unlessAborted(reading, limit.signal).catch(() => {});
    }
    return last === null || now() - last.at >= STALE_MS ? {} : last.usage;
  };
}

function percent(before: Measured | null, { cpuSeconds }: JobUsage, at: number): Pick<LiveUsage, "cpuPercent"> {
  const earlier = before?.usage.cpuSeconds;
  if (before === null || earlier === undefined || cpuSeconds === undefined) return {};
  const seconds = (at - before.at) / 1000;
  // What was counted may have gone: a container that was started again counts from nothing.
  if (seconds <= 0 || seconds >= STALE_MS / 1000 || cpuSeconds < earlier) return {};
  return { cpuPercent: Math.round(((cpuSeconds - earlier) / seconds) * 100) };
}
