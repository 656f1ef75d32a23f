import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { Provider } from "../provider.ts";
import type { Place } from "./contract.ts";

interface Around<C> {
  readonly provider: Provider<C>;
  /** Told that it does not answer. */
  readonly gone: (id: string, why: string) => void;
}

/** An instance as the job has it that works there. `lost` is aborted by whoever learns first that it is gone. */
export function placeAt<C>(
  { id, word, connection, lost }: Pick<Place<C>, "id" | "word" | "connection"> & { readonly lost: AbortController },
  { provider, gone }: Around<C>,
): Place<C> {
  return {
    id,
    word,
    connection,
    lost: lost.signal,
    async isThere(signal) {
      if (lost.signal.aborted) return false;
      try {
        await provider.check(id, connection, signal);
        return true;
      } catch (error) {
        signal.throwIfAborted();
        const problem = describeError(error);
        lost.abort(new SystemFailure(`The ${word} ${id} is gone: ${problem}`, { retry: true }));
        gone(id, `it went away under a job: ${problem}`);
        return false;
      }
    },
  };
}
