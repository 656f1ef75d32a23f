/** When the next piece of a trace should leave: soon for whoever watches, seldom where there is much or nobody looks. */

export interface PaceOptions {
  /** The first bytes leave within this time, also without a line break. */
  readonly firstMs: number;
  /** What comes in so short a time is one piece. */
  readonly batchMs: number;
  /** Least time from one piece to the next while little is printed. */
  readonly quietMs: number;
  /** The same under steady output that nobody could read as it passes by. */
  readonly steadyMs: number;
  /** The longest interval that a coordinator is given. */
  readonly maxIntervalMs: number;
  /** How long the start of a line waits for its end. */
  readonly holdLineMs: number;
  /** So much leaves at once; grows under steady output. */
  readonly gatherBytes: number;
  readonly pieceBytes: number;
}

export interface Pace {
  /**
   * When a piece of `pendingBytes` should leave; times in ms, monotonic.
   * @param since when the oldest of them came
   * @param grownAt when the last of them came
   */
  due(pendingBytes: number, since: number, grownAt: number): number;
  /** How long to wait for the end of a line that is there since `since`. */
  holdUntil(since: number): number;
  /** A piece was sent at `at` that had been waiting since `since`. */
  sent(bytes: number, since: number, at: number): void;
  /** What the coordinator asked for, or `undefined`. */
  asked(intervalMs: number | undefined): void;
}

/** Lines that one can follow with the eye: below, output is not thinned out. */
const READABLE_BYTES = 4 * 1024;

export function createPace(options: PaceOptions): Pace {
  const { firstMs, batchMs, quietMs, steadyMs, maxIntervalMs, holdLineMs, gatherBytes, pieceBytes } = options;
  let lastAt: number | undefined;
  let intervalMs = quietMs;
  let enoughBytes = gatherBytes;
  let askedMs: number | undefined;
  return {
    due(pendingBytes, since, grownAt) {
      if (pendingBytes >= (askedMs === undefined ? enoughBytes : pieceBytes)) return since;
      if (lastAt === undefined) return since + batchMs;
      // Output that has ceased to be steady is not worth waiting for more of it.
      const spaced = askedMs ?? Math.min(intervalMs, Math.max(quietMs, grownAt + quietMs - lastAt));
      return Math.max(since + batchMs, lastAt + spaced);
    },
    holdUntil: (since) => since + (lastAt === undefined ? firstMs : holdLineMs),
    sent(bytes, since, at) {
      const steady = lastAt !== undefined && since < lastAt + intervalMs;
      lastAt = at;
      if (!steady || bytes < READABLE_BYTES) {
        intervalMs = quietMs;
        enoughBytes = gatherBytes;
        return;
      }
      intervalMs = Math.min(intervalMs * 1.5, steadyMs);
      if (bytes >= enoughBytes) enoughBytes = Math.min(enoughBytes * 2, pieceBytes);
    },
    asked(ms) {
      if (ms !== undefined) askedMs = Math.max(quietMs, Math.min(ms, maxIntervalMs));
    },
  };
}

/** What a request is for: a flood may be sent ahead of time, and whether the job is still wanted is always asked. */
type Errand = "piece" | "full_piece" | "probe";

/** About `perMinute` requests a minute, of which a fifth may come at once; full pieces and probes borrow from later. */
export interface Budget {
  /** Milliseconds until a request may be made; 0 is now. */
  waitMs(now: number, errand: Errand): number;
  spend(now: number): void;
}

/** How far a budget may be overdrawn, in requests. A coordinator that minds says so (429), and is obeyed. */
const CREDIT: Readonly<Record<Errand, number>> = { piece: 0, full_piece: 100, probe: 150 };

export function createBudget(perMinute: number): Budget {
  const burst = perMinute / 5;
  const perMs = (perMinute - burst) / 60_000;
  let tokens = burst;
  let countedAt = performance.now();
  const refill = (now: number): void => {
    tokens = Math.min(burst, tokens + (now - countedAt) * perMs);
    countedAt = now;
  };
  return {
    waitMs(now, errand) {
      if (!Number.isFinite(perMinute)) return 0;
      refill(now);
      const usable = tokens + CREDIT[errand];
      return usable >= 1 ? 0 : (1 - usable) / perMs;
    },
    spend(now) {
      if (!Number.isFinite(perMinute)) return;
      refill(now);
      tokens -= 1;
    },
  };
}
