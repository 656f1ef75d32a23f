/** Longest pause after places that failed again and again. */
const LONGEST_PAUSE_MS = 15 * 60_000;

/** What became of a job's place. */
export type PlaceResult =
  | "worked"
  /** There was none, and that was not the job's fault. */
  | "failed"
  /** Nothing can be said: no job came, or it ended too soon. */
  | "unknown";

/** An entry's try to get a job, up to the place that the job gets. */
export interface Attempt {
  /** To be called once it is known; later calls do nothing. */
  told(result: PlaceResult): void;
}

export interface Paused {
  readonly until: number;
  /** In a row. */
  readonly failures: number;
}

/** Whether an entry's jobs get their places, as far as its last jobs tell. */
export interface Breaker {
  /** May a job be asked for? `trial`: another one is under way and shows whether there are places again. */
  begin(): Attempt | Paused | "trial";
}

export interface BreakerOptions {
  /** Asked each time, so that a reload takes effect. */
  readonly settings: () => {
    /** Failures in a row until no job is asked for; `null`: any number. */
    readonly most: number | null;
    /** The first pause; each one after is twice as long. */
    readonly pauseMs: number;
  };
  /** Told when it opens, with the failures in a row. */
  readonly onOpen: (failures: number) => void;
  readonly now?: () => number;
}

/** Opens after failures in a row; after a pause it lets one job through at a time, until one works. */
export function createBreaker({ settings, onOpen, now = () => performance.now() }: BreakerOptions): Breaker {
  let failures = 0;
  /** How often it has opened since a job worked. */
  let opened = 0;
  let until = 0;
  let trial: Attempt | undefined;

  const fail = (): void => {
    failures++;
    const { most, pauseMs } = settings();
    // Jobs that came before it opened say nothing new.
    if (most === null || failures < most || now() < until) return;
    until = now() + Math.min(LONGEST_PAUSE_MS, pauseMs * 2 ** Math.min(opened, 20));
    if (opened++ === 0) onOpen(failures);
  };

  return {
    begin() {
      if (opened > 0 && now() < until) return { until, failures };
      if (opened > 0 && trial !== undefined) return "trial";
      let over = false;
      const mine: Attempt = {
        told(result) {
          if (over) return;
          over = true;
          if (trial === mine) trial = undefined;
          if (result === "failed") fail();
          if (result === "worked") [failures, opened, until] = [0, 0, 0];
        },
      };
      if (opened > 0) trial = mine;
      return mine;
    },
  };
}
