/** How often is asked for jobs. All milliseconds; tests pass smaller ones. */
export interface PollTiming {
  /** An empty answer that took this long was held back by the coordinator: ask again at once. */
  readonly heldMs: number;
  /** A request under way for longer than this lends its slot to others. */
  readonly lendMs: number;
  /** The same for a request to a coordinator that is known to hold requests back. */
  readonly lendHeldMs: number;
  /** Longest pause after a job that somebody else got. */
  readonly conflictMs: number;
  /** Pauses while a coordinator is in trouble grow from the first to the second. */
  readonly troubleFirstMs: number;
  readonly troubleMaxMs: number;
  /** Pauses while the token is not accepted; the last one repeats. */
  readonly probesMs: readonly number[];
  /** An outage is mentioned again after this time. */
  readonly outageReminderMs: number;
  /** When to ask after a job's report arrived: the next stage is queued within milliseconds. */
  readonly burstMs: readonly number[];
  /** How long a request may stay under way once no more jobs are wanted; broken off, it can lose a job. */
  readonly lastRequestMs: number;
}

export const pollTiming: PollTiming = {
  heldMs: 1000,
  lendMs: 2000,
  lendHeldMs: 60_000,
  conflictMs: 1000,
  troubleFirstMs: 1000,
  troubleMaxMs: 60_000,
  probesMs: [60_000, 120_000, 300_000],
  outageReminderMs: 600_000,
  burstMs: [100, 300, 1000],
  lastRequestMs: 15_000,
};

/** Entries on one coordinator from which on the whole `check_interval` is waited. */
const MANY_ENTRIES = 8;

/**
 * Pause between two requests that brought nothing. `check_interval` is the longest: with few entries a coordinator is
 * asked more often, down to 0.36 of it. `random` is in [0, 1) and moves the pause by a tenth up or down, so that entries
 * drift apart; `strict_check_interval` takes the interval as it is.
 */
export function idlePauseMs(
  entry: { readonly checkIntervalMs: number; readonly entriesOnOrigin: number; readonly strict: boolean },
  random: number,
): number {
  if (entry.strict) return entry.checkIntervalMs;
  const share = Math.max(0.36, Math.min(1, entry.entriesOnOrigin / MANY_ENTRIES));
  return Math.min(entry.checkIntervalMs, entry.checkIntervalMs * share * (0.9 + 0.2 * random));
}

/** When the `index`-th of `count` entries that begin together asks first: spread evenly, a single one at once. */
export function firstDelayMs(index: number, count: number, pauseMs: number, random: number): number {
  if (count <= 1) return 0;
  return (Math.min(pauseMs, 100 * count) * (index + random)) / count;
}
