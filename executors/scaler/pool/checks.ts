import { describeError, SystemFailure } from "../../../src/errors.ts";
import { pause } from "../../../src/time.ts";
import type { Scaler } from "../decide/contract.ts";
import type { Provider } from "../provider.ts";

export interface ChecksOptions<C> {
  readonly provider: Provider<C>;
  readonly scaler: Scaler;
  /** Between two checks of an instance that is ready. */
  readonly everyMs: () => number;
  /** Checks in a row after which nobody believes in it any more, and its jobs end. */
  readonly hopeless: () => number;
  /** Something is known now that was not. */
  readonly changed: () => void;
  /** It does not answer any more, with jobs on it. */
  readonly dead: (id: string, failure: SystemFailure) => void;
}

/** Whether instances can be used: new ones before they get a job, all of them once in a while. */
export interface Checks<C> {
  /** Begins what is due; waits for nothing. */
  look(now: number, signal: AbortSignal): void;
  /** Right before a job. @throws {SystemFailure} it cannot be used */
  beforeJob(id: string, now: number, signal: AbortSignal): Promise<C>;
}

const FIRST_TRIES = 4;
const FIRST_PAUSE_MS = 1_000;
/** A check that is younger says enough. */
const FRESH_MS = 5_000;
const MOST_AT_ONCE = 20;

interface Known<C> {
  connection: C;
  checkedAt: number;
  failures: number;
}

export function createChecks<C>({ provider, scaler, everyMs, hopeless, changed, dead }: ChecksOptions<C>): Checks<C> {
  const known = new Map<string, Known<C>>();
  const underWay = new Set<string>();

  const first = async (id: string, now: number, signal: AbortSignal): Promise<void> => {
    for (let attempt = 1; ; attempt++) {
      try {
        const connection = await provider.connect(id, signal);
        await provider.check(id, connection, signal);
        known.set(id, { connection, checkedAt: now, failures: 0 });
        scaler.ready(id);
        return;
      } catch (error) {
        if (signal.aborted) return;
        const hopeless = error instanceof SystemFailure && !error.retry;
        if (hopeless || attempt >= FIRST_TRIES) {
          scaler.discard(id, `it cannot be used: ${describeError(error)}`);
          return;
        }
        await pause(FIRST_PAUSE_MS * attempt, signal);
      }
    }
  };

  const again = async (id: string, one: Known<C>, signal: AbortSignal): Promise<void> => {
    try {
      await provider.check(id, one.connection, signal);
      one.failures = 0;
      scaler.checked(id, true);
    } catch (error) {
      if (signal.aborted) return;
      one.failures++;
      scaler.checked(id, false);
      if (one.failures < hopeless()) return;
      dead(id, new SystemFailure(`${id} does not answer any more: ${describeError(error)}`, { retry: true }));
    }
  };

  const begin = (id: string, work: Promise<void>): void => {
    underWay.add(id);
    void work
      .catch(() => {})
      .finally(() => {
        underWay.delete(id);
        changed();
      });
  };

  return {
    look(now, signal) {
      const instances = scaler.instances();
      const there = new Set(instances.map(({ id }) => id));
      for (const id of known.keys()) if (!there.has(id)) known.delete(id);
      for (const { id, state, jobs } of instances) {
        if (underWay.has(id)) continue;
        if (state === "checking") begin(id, first(id, now, signal));
        const one = known.get(id);
        const watched = state === "ready" || (state === "draining" && jobs > 0);
        if (one === undefined || !watched || now - one.checkedAt < everyMs() || underWay.size >= MOST_AT_ONCE) continue;
        one.checkedAt = now;
        begin(id, again(id, one, signal));
      }
    },
    async beforeJob(id, now, signal) {
      const one = known.get(id);
      if (one === undefined) throw new SystemFailure(`${id} is gone`, { retry: true });
      if (one.failures > 0 || now - one.checkedAt > FRESH_MS) {
        await provider.check(id, one.connection, signal);
        one.checkedAt = now;
      }
      return one.connection;
    },
  };
}
