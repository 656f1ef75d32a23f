/** Clocks that were set are followed once they are off by more than this. */
const OFF_MS = 2;

/** The wall clock in whole microseconds, never backwards: a clock that is set back repeats its last value. */
export function createStampClock(lastMicros = 0): () => number {
  let last = lastMicros;
  let wall = Date.now();
  let since = performance.now();
  return () => {
    const now = Date.now();
    let ms = wall + performance.now() - since;
    if (Math.abs(ms - now) > OFF_MS) {
      wall = now;
      since = performance.now();
      ms = now;
    }
    last = Math.max(last, Math.floor(ms * 1000));
    return last;
  };
}
