/** `body`, which ends by itself after a stop. If it does not within `limitMs`, `force` ends it, and nobody waits for it any longer. */
export async function stoppable<T>(
  body: Promise<T>,
  signal: AbortSignal,
  limitMs: number,
  force: () => Promise<unknown>,
): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => {
      force().then(
        () => reject(signal.reason),
        () => reject(signal.reason),
      );
    }, limitMs);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  try {
    // The race hears both to their ends: whichever comes second is no unhandled rejection.
    return await Promise.race([body, late]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
