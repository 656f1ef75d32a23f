/** Versions of components, as their projects' tags have them. */

const VERSION = /^v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/;

/** Whether what stands behind `@` is to be looked for among the tags: `~latest`, `1`, `1.2`. */
export function isVague(version: string): boolean {
  return version === "~latest" || /^\d+(?:\.\d+)?$/.test(version);
}

/** The newest tag that is meant by `~latest`, `1` or `1.2`; what comes before a release is not. */
export function newestTag(version: string, tags: readonly string[]): string | undefined {
  const wanted = version === "~latest" ? [] : version.split(".").map(Number);
  const found = tags.flatMap((tag) => {
    const [, major, minor, patch, before] = VERSION.exec(tag) ?? [];
    if (major === undefined || before !== undefined) return [];
    const numbers = [major, minor, patch].map(Number);
    return wanted.every((number, index) => numbers[index] === number) ? [{ tag, numbers }] : [];
  });
  return found.toSorted((a, b) => compare(b.numbers, a.numbers))[0]?.tag;
}

function compare(a: readonly number[], b: readonly number[]): number {
  const index = a.findIndex((number, place) => number !== b[place]);
  return index < 0 ? 0 : (a[index] ?? 0) - (b[index] ?? 0);
}
