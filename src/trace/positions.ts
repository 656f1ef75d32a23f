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
}

export function createPositions(
  keeper: TraceKeeper,
  spool: Pick<Spool, "size" | "broken" | "onGrowth">,
  position: () => TracePosition,
): Positions {
  let next: TracePosition | undefined;
  let last = position();
  let lastMs = performance.now();

  function confirm(): void {
    if (next === undefined || spool.size < next.spool || spool.broken.aborted) return;
    keeper.reached(next);
    next = undefined;
  }
  spool.onGrowth(confirm);

  function note(): void {
    last = position();
    lastMs = performance.now();
    next = last;
    confirm();
  }

  return {
    note,
    get due() {
      if (next !== undefined) return false;
      const here = position();
      const far = here.chain.at - last.chain.at >= EVERY_BYTES || here.spool - last.spool >= EVERY_BYTES;
      return far || performance.now() - lastMs >= EVERY_MS;
    },
  };
}
