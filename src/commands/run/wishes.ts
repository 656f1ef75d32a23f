import type { Readable } from "node:stream";
import type { Wish } from "./signals.ts";

/**
 * What a service host asks for where there are no signals (Windows): lines `drain` and `stop` on standard input. Its end means
 * that the host is gone, and so is a stop.
 */
export function listenToWishes(input: Readable, onWish: (wish: Wish, source: string) => void): Disposable {
  let rest = "";
  const onData = (bytes: Buffer | string): void => {
    const lines = `${rest}${bytes}`.split("\n");
    // Only the host writes here; but a line without end must not grow without limit.
    rest = (lines.pop() ?? "").slice(-100);
    for (const line of lines) {
      const word = line.trim();
      if (word === "drain" || word === "stop") onWish(word, "the service manager");
    }
  };
  let over = false;
  const onEnd = (): void => {
    if (!over) onWish("stop", "the end of the service host");
    over = true;
  };
  input.on("data", onData);
  input.on("end", onEnd);
  input.on("error", onEnd);
  return {
    [Symbol.dispose]: () => {
      input.off("data", onData);
      input.off("end", onEnd);
      input.pause();
    },
  };
}
