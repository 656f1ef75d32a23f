import type { TraceKeeper, TracePosition } from "./contract.ts";
import type { Spool } from "./spool.ts";

/** A position is kept after so much output, or such a time with output: a small part of what may wait to be read. */
const EVERY_BYTES = 256 * 1024;
const EVERY_MS = 250;

/** Tells a keeper now and then where a trace is, once all that is before that is on disk: only this outlives the process. */
export interface Positions {
  /** Output came, or a line: notes it if it is time, and otherwise soon, as nothing more may come. */
  look(): void;
  /** This one, at which nothing waits to become a line. */
  note(): void;
  /** Nothing is noted any more. */
  end(): void;
}

/**
 * @param position `null`: that cannot be told now, and what was kept holds
 * @param settle what waits to become a line becomes one
 */
export function createPositions(
  keeper: TraceKeeper,
  spool: Pick<Spool, "size" | "broken" | "onGrowth">,
  position: () => TracePosition | null,
  settle: () => void,
): Positions {
  let next: TracePosition | undefined;
  let last = position();
  let lastMs = performance.now();
  let timer: NodeJS.Timeout | undefined;
  let over = false;

  function confirm(): void {
    if (over || next === undefined || spool.size < next.spool || spool.broken.aborted) return;
    keeper.reached(next);
    next = undefined;
  }
  spool.onGrowth(confirm);

  function note(): void {
    clearTimeout(timer);
    timer = undefined;
    const here = position();
    if (here === null) return;
    last = here;
    lastMs = performance.now();
    next = last;
    confirm();
  }

  function isDue(): boolean {
    if (next !== undefined) return false;
    const here = position();
    if (here === null) return false;
    const far = last === null || here.chain.at - last.chain.at >= EVERY_BYTES || here.spool - last.spool >= EVERY_BYTES;
    return far || performance.now() - lastMs >= EVERY_MS;
  }

  function look(): void {
    if (over) return;
    if (isDue()) {
      settle();
      note();
    } else {
      timer ??= setTimeout(() => {
        timer = undefined;
        look();
      }, EVERY_MS).unref();
    }
  }

  return {
    look,
    note,
    end() {
      over = true;
      clearTimeout(timer);
    },
  };
}
