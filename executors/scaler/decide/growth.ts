/** How many instances may be asked for now: so many a second, and none for a while after a failure. */
export interface Growth {
  /** How many of `wanted`. After failures it is one, once in a while, until one is ready. */
  grant(wanted: number, now: number): number;
  /** Those that were granted are asked for. */
  spend(count: number): void;
  /** An instance could not be made, or never became ready. */
  failed(now: number): void;
  /** One became ready. */
  worked(): void;
  configure(throttle: Throttle | null): void;
  /** The last one could not be made. */
  readonly failing: boolean;
}

export interface Throttle {
  readonly perSecond: number;
  readonly burst: number;
}

const FIRST_PAUSE_MS = 5_000;
const LONGEST_PAUSE_MS = 300_000;

export function createGrowth(given: Throttle | null): Growth {
  let throttle = given;
  let tokens = throttle?.burst ?? 0;
  let filledAt: number | null = null;
  let failures = 0;
  let notBefore = Number.NEGATIVE_INFINITY;

  const refill = (now: number): number => {
    if (throttle === null) return Number.POSITIVE_INFINITY;
    // A clock that was put back gives nothing and takes nothing.
    const seconds = filledAt === null ? 0 : Math.max(0, now - filledAt) / 1000;
    filledAt = now;
    tokens = Math.min(throttle.burst, tokens + seconds * throttle.perSecond);
    return Math.floor(tokens);
  };

  return {
    grant(wanted, now) {
      const allowed = refill(now);
      if (wanted <= 0 || now < notBefore) return 0;
      return Math.min(wanted, allowed, failures > 0 ? 1 : Number.POSITIVE_INFINITY);
    },
    spend(count) {
      tokens -= throttle === null ? 0 : count;
    },
    failed(now) {
      // Ten that fail together are one failure.
      if (now < notBefore) return;
      notBefore = now + Math.min(FIRST_PAUSE_MS * 2 ** failures, LONGEST_PAUSE_MS);
      failures++;
    },
    worked() {
      failures = 0;
      notBefore = Number.NEGATIVE_INFINITY;
    },
    configure(next) {
      if (throttle === null && next !== null) tokens = next.burst;
      throttle = next;
    },
    get failing() {
      return failures > 0;
    },
  };
}
