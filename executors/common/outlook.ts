import { Stop, SystemFailure } from "../../src/errors.ts";
import { deadline, never, unlessAborted } from "../../src/time.ts";

export interface OutlookOptions {
  /**
   * Looks whether jobs could run.
   * @throws {SystemFailure} why not
   */
  readonly look: (signal: AbortSignal) => Promise<void>;
  /** A good answer holds for this long. */
  readonly freshMs: number;
  /** For this long it is given while a new look is under way. */
  readonly staleMs: number;
  /** A bad answer holds for this long. */
  readonly againMs?: number;
  /** Longest that a look may take. */
  readonly limitMs: number;
}

/** Whether jobs could run, by looks that happen only while somebody asks. */
export interface Outlook {
  /** Fits `Executor.ready`. */
  ready(signal: AbortSignal): Promise<void>;
  /** Something failed that a look would have shown: the next question looks. */
  doubt(): void;
}

/** Soon enough for whoever waits, and seldom enough for what is in trouble. */
const AGAIN_MS = 1000;

export function createOutlook({ look, freshMs, staleMs, againMs = AGAIN_MS, limitMs }: OutlookOptions): Outlook {
  /** As of the last look that has ended. */
  let last: { readonly at: number; readonly problem: unknown } | undefined;
  let looking: Promise<void> | undefined;

  /** All who ask meanwhile share it, so the signal of none of them ends it. */
  const begin = (): Promise<void> => {
    looking ??= (async () => {
      using limit = deadline(never, limitMs, new Stop("timed_out", `no answer within ${limitMs / 1000} s`));
      const problem = await unlessAborted(look(limit.signal), limit.signal).then(
        () => undefined,
        (error: unknown) =>
          error instanceof Stop ? new SystemFailure(error.message, { cause: error, retry: true }) : error,
      );
      last = { at: performance.now(), problem };
      looking = undefined;
    })();
    return looking;
  };

  return {
    async ready(signal) {
      const age = last === undefined ? Number.POSITIVE_INFINITY : performance.now() - last.at;
      const bad = last?.problem !== undefined;
      if (age > (bad ? againMs : staleMs)) await unlessAborted(begin(), signal);
      else if (!bad && age > freshMs) void begin();
      if (last?.problem !== undefined) throw last.problem;
    },
    doubt() {
      last = undefined;
    },
  };
}
