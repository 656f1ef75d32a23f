/** All of them, or the first failure once none is under way any more: nothing is made behind the back of a clean-up. */
export async function all<T extends readonly unknown[]>(
  promises: readonly [...{ [K in keyof T]: Promise<T[K]> }],
): Promise<T> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}
