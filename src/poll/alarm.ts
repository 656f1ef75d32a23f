/** Longest delay that Node's timers can hold. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The pause of one polling loop, and what may end it early. */
export interface Alarm {
  /**
   * Resolves after `ms`, or at once when `ring` was called since the last wait, or at the next time that `nudge` set after
   * `since` (`performance.now()` of the last request; `null`: such times are passed over).
   */
  wait(ms: number, since: number | null): Promise<void>;
  /** There may soon be work: ask at the burst's times from now. */
  nudge(): void;
  /** End this wait, or the next one. */
  ring(): void;
}

/** One timer at most, and no listener: a hundred of these wait at almost no cost. */
export function createAlarm(burstMs: readonly number[]): Alarm {
  let times: number[] = [];
  let rung = false;
  /** Looks again whether the wait is over. Set while somebody waits. */
  let look: (() => void) | undefined;

  return {
    wait(ms, since) {
      const until = performance.now() + ms;
      return new Promise((resolve) => {
        let timer: NodeJS.Timeout | undefined;
        look = () => {
          clearTimeout(timer);
          const now = performance.now();
          if (since !== null) times = times.filter((time) => time > since);
          const next = since === null ? until : Math.min(until, times[0] ?? until);
          if (!rung && next > now) {
            timer = setTimeout(() => look?.(), Math.min(Math.ceil(next - now), LONGEST_TIMER_MS));
            return;
          }
          rung = false;
          // Times that passed together count once.
          if (since !== null) times = times.filter((time) => time > now);
          look = undefined;
          resolve();
        };
        look();
      });
    },
    nudge() {
      const now = performance.now();
      times = burstMs.map((ms) => now + ms);
      look?.();
    },
    ring() {
      rung = true;
      look?.();
    },
  };
}
