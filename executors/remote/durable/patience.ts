import { SystemFailure } from "../../../src/errors.ts";
import { pause } from "../../../src/time.ts";
import type { DurableOptions } from "./options.ts";

/** How long nothing may be heard of a place whose script runs. */
export const AWAY_MS = 300_000;
/** Shorter breaks are not mentioned in the trace. */
const WEATHER_MS = 10_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;

interface Patience {
  /** Something has come: the time begins anew. */
  heard(): void;
  /** Waits until it may be tried again. @throws the error, or why there is no hope */
  failed(error: unknown): Promise<void>;
}

/** For what may fail for a while, and for at most `limitMs` in which nothing is heard: the place is asked whether there is hope. */
export function patience(options: DurableOptions, limitMs: number, signal: AbortSignal): Patience {
  let since = performance.now();
  let told = false;
  let waitMs = FIRST_PAUSE_MS;
  return {
    heard() {
      if (told) options.onWeather("back");
      told = false;
      since = performance.now();
      waitMs = FIRST_PAUSE_MS;
    },
    async failed(error) {
      signal.throwIfAborted();
      if (!(error instanceof SystemFailure) || !error.retry) throw error;
      const gone = await options.lost(signal);
      if (gone !== null) throw gone;
      const awayMs = performance.now() - since;
      if (awayMs > limitMs) {
        if (options.missed !== undefined) throw options.missed();
        throw new SystemFailure(
          `Nothing was heard of the place where the script runs for ${Math.round(awayMs / 1000)} s: ${error.message}`,
          { cause: error },
        );
      }
      if (awayMs > WEATHER_MS && !told) {
        told = true;
        options.onWeather("lost");
      }
      await pause(waitMs, signal);
      waitMs = Math.min(waitMs * 2, LONGEST_PAUSE_MS);
    },
  };
}

/** As long as `body` fails in a way that may pass, it is done again. */
export async function persistently<T>(
  options: DurableOptions,
  limitMs: number,
  body: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const { heard, failed } = patience(options, limitMs, signal);
  for (;;) {
    try {
      const result = await body();
      heard();
      return result;
    } catch (error) {
      await failed(error);
    }
  }
}
