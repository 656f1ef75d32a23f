import type { Duplex } from "node:stream";

/** Rounds without a byte from the far side until it counts as gone. */
const SILENT_ROUNDS = 4;

/**
 * Watches a line for bytes from the far side: any of them is a sign of life, not only the answer to what was asked, which can
 * stand behind megabytes of output on a slow line. Asking is ssh2's work, by `keepaliveInterval`.
 */
export function watchForSilence(line: Duplex, intervalMs: number, onSilence: (silentMs: number) => void): Disposable {
  let heard = true;
  let silentRounds = 0;
  const onData = (): void => {
    heard = true;
  };
  line.on("data", onData);
  const timer = setInterval(() => {
    silentRounds = heard ? 0 : silentRounds + 1;
    heard = false;
    if (silentRounds >= SILENT_ROUNDS) {
      clearInterval(timer);
      onSilence(silentRounds * intervalMs);
    }
  }, intervalMs);
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer);
      line.removeListener("data", onData);
    },
  };
}
