import type { Executor } from "../../src/executor/executor.ts";

/** An executor for one job. */
export interface Held {
  readonly executor: Executor;
  /** To be called once. */
  leave(): Promise<void>;
}

/** An executor, and those of before a reload, whose jobs go on. */
export interface Successive {
  readonly current: Executor;
  /** The current one, which is closed no earlier than this is left. */
  hold(): Held;
  /** New jobs are `next`'s. */
  replace(next: Executor): void;
  close(signal: AbortSignal): Promise<void>;
}

/** @param closeMs longest end of one whose last job is over */
export function createSuccessive(first: Executor, closeMs: number): Successive {
  let current: Used = { executor: first, users: 0 };
  const former = new Set<Used>();
  const hold = (): Held => {
    const mine = current;
    mine.users++;
    return {
      executor: mine.executor,
      async leave() {
        if (--mine.users === 0 && former.delete(mine)) await mine.executor.close(AbortSignal.timeout(closeMs));
      },
    };
  };
  return {
    get current() {
      return current.executor;
    },
    hold,
    replace(next) {
      const { leave } = hold();
      former.add(current);
      current = { executor: next, users: 0 };
      void leave();
    },
    async close(signal) {
      await Promise.all([current, ...former].map(({ executor }) => executor.close(signal)));
    },
  };
}

interface Used {
  readonly executor: Executor;
  users: number;
}
