import { Stop } from "../../errors.ts";
import { never } from "../../time.ts";

/** Something that happens again and again, and those who want to hear of it. */
export interface Channel<T> {
  /** @returns how to stop listening */
  on(listener: (value: T) => void): () => void;
  emit(value: T): void;
}

export function createChannel<T>(): Channel<T> {
  const listeners = new Set<(value: T) => void>();
  return {
    on(listener) {
      // Wrapped, so that one function can listen twice and each stop ends one of them.
      const own = (value: T): void => listener(value);
      listeners.add(own);
      return () => listeners.delete(own);
    },
    emit(value) {
      for (const listener of [...listeners]) listener(value);
    },
  };
}

/** How long to wait for something. Without `timeoutMs` 30 s; `Infinity` waits for `signal` only. */
export interface Wait {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Ask `probe` now and after each emit of `channel` until it answers something else than `undefined`.
 * Rejects with what `probe` throws, with `signal.reason`, or after the time with a Stop whose text `describe` gives.
 */
export function until<T>(
  channel: { on(listener: () => void): () => void },
  probe: () => T | undefined,
  describe: () => string,
  { timeoutMs = 30_000, signal = never }: Wait = {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    let off: () => void = () => undefined;
    const end = (): void => {
      clearTimeout(timer);
      off();
      signal.removeEventListener("abort", onAbort);
    };
    const onAbort = (): void => {
      end();
      reject(signal.reason);
    };
    const ask = (): boolean => {
      try {
        const answer = probe();
        if (answer === undefined) return false;
        end();
        resolve(answer);
      } catch (error) {
        end();
        reject(error);
      }
      return true;
    };
    if (signal.aborted) return reject(signal.reason);
    if (ask()) return;
    off = channel.on(ask);
    signal.addEventListener("abort", onAbort, { once: true });
    if (timeoutMs !== Number.POSITIVE_INFINITY)
      timer = setTimeout(() => {
        end();
        reject(new Stop("timed_out", `After ${timeoutMs} ms still waiting for ${describe()}`));
      }, timeoutMs);
  });
}

/** Now, in milliseconds since 1970 with fractions: comparable between processes of one machine, never stepping back. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
