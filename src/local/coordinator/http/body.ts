import type { Readable } from "node:stream";

/** How the reading of a request's body ended. `gone`: the caller hung up before its end. */
export type BodyEnd = "complete" | "too_large" | "stalled" | "gone";

export interface BodyLimits {
  readonly limitBytes: number;
  /** Longest time without a byte. */
  readonly stallTimeoutMs: number;
}

/**
 * Hand each piece of a body to `onChunk`, waiting for it where it returns a promise. What comes after the end of the
 * reading (a body beyond its limit) is left unread. Rejects with what `onChunk` threw.
 */
export function readBody(
  request: Readable,
  { limitBytes, stallTimeoutMs }: BodyLimits,
  onChunk: (chunk: Buffer) => void | Promise<void>,
): Promise<BodyEnd> {
  return new Promise((resolve, reject) => {
    let received = 0;
    let busy = false;
    let ended = false;
    const settle = (act: () => void): void => {
      clearTimeout(timer);
      request.off("data", onData).off("end", onEnd).off("close", onClose).off("error", onClose);
      request.pause();
      act();
    };
    const stalled = (): void => settle(() => resolve("stalled"));
    const timer = setTimeout(stalled, stallTimeoutMs);
    const onData = (chunk: Buffer): void => {
      received += chunk.length;
      if (received > limitBytes) {
        settle(() => resolve("too_large"));
        return;
      }
      timer.refresh();
      try {
        const wait = onChunk(chunk);
        if (wait !== undefined) hold(wait);
      } catch (error) {
        settle(() => reject(error));
      }
    };
    const hold = (wait: Promise<void>): void => {
      busy = true;
      request.pause();
      wait.then(
        () => {
          busy = false;
          if (ended) onEnd();
          else request.resume();
        },
        (error: unknown) => settle(() => reject(error)),
      );
    };
    const onEnd = (): void => {
      ended = true;
      if (!busy) settle(() => resolve("complete"));
    };
    const onClose = (): void => {
      if (!ended) settle(() => resolve("gone"));
    };
    if (request.destroyed && !request.readableEnded) return settle(() => resolve("gone"));
    request.on("data", onData).on("end", onEnd).on("close", onClose).on("error", onClose);
    request.resume();
  });
}
