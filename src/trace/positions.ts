import type { TraceKeeper, TracePosition } from "./contract.ts";
import type { Spool } from "./spool.ts";

/** A position is kept after so much output, or such a time with output. */
const EVERY_BYTES = 1024 * 1024;
const EVERY_MS = 250;

/** Tells a keeper now and then where a trace is, once all that is before that is on disk: only this outlives the process. */
export interface Positions {
  /** It is time for one. Asked between two pieces of output. */
  readonly due: boolean;
  /** This one, at which nothing waits to become a line. */
  note(): void;
  /** Calls back when it is time for one although nothing more has come: whoever keeps output waits for it. */
  later(act: () => void): void;
  close(): void;
}

export function createPositions(
  keeper: TraceKeeper,
  spool: Pick<Spool, "size" | "broken" | "onGrowth">,
  position: () => TracePosition,
): Positions {
  let next: TracePosition | undefined;
  let last = position();
  let lastMs = performance.now();
  let timer: NodeJS.Timeout | undefined;

  function confirm(): void {
    if (next === undefined || spool.size < next.spool || spool.broken.aborted) return;
    keeper.reached(next);
    next = undefined;
  }
  spool.onGrowth(confirm);

  function close(): void {
    clearTimeout(timer);
    timer = undefined;
  }

  function note(): void {
    close();
    last = position();
    lastMs = performance.now();
    next = last;
    confirm();
  }

  return {
    note,
    close,
    later(act) {
      timer ??= setTimeout(() => {
        timer = undefined;
        act();
      }, EVERY_MS).unref();
    },
    get due() {
      if (next !== undefined) return false;
      const here = position();
      const far = here.chain.at - last.chain.at >= EVERY_BYTES || here.spool - last.spool >= EVERY_BYTES;
      return far || performance.now() - lastMs >= EVERY_MS;
    },
  };
}
