import type { Log } from "../../../log.ts";
import { maskedLog } from "./masked-log.ts";

/** Masks of the jobs under way, for what is shared by them and writes to the runner's log: executors. */
export interface LiveMasks {
  /** `mask` counts until the answer is disposed of. */
  hold(mask: (text: string) => string): Disposable;
  /** A log whose lines show no secret of any job that is under way when they are written. */
  masked(log: Log): Log;
}

export function createLiveMasks(): LiveMasks {
  const held = new Set<{ readonly mask: (text: string) => string }>();
  return {
    hold(mask) {
      const one = { mask };
      held.add(one);
      return { [Symbol.dispose]: () => held.delete(one) };
    },
    masked: (log) => maskedLog(log, (text) => [...held].reduce((shown, { mask }) => mask(shown), text)),
  };
}
