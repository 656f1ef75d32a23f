/** Tokens that end sooner are asked for again. */
const SPARE_MS = 5 * 60_000;

/** Whatever has to be asked for anew before it ends; who comes meanwhile waits for the same. */
export function keepUntil<T extends { readonly lifeMs: number }>(ask: () => Promise<T>): () => Promise<T> {
  let kept: { readonly made: Promise<T>; until: number } | undefined;
  return async () => {
    if (kept !== undefined && performance.now() < kept.until) return await kept.made;
    const startedAt = performance.now();
    const mine = { made: ask(), until: Number.POSITIVE_INFINITY };
    kept = mine;
    try {
      const { lifeMs } = await mine.made;
      mine.until = startedAt + Math.max(lifeMs - SPARE_MS, lifeMs / 2);
    } catch (error) {
      if (kept === mine) kept = undefined;
      throw error;
    }
    return await mine.made;
  };
}
