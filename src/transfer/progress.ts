/** Lines about transfers that take long. */

const FIRST_MS = 5000;
const LONGEST_PAUSE_MS = 60_000;

/**
 * Called with bytes as they move; prints the progress after 5 s, then ever more rarely.
 * @param what as the start of a sentence: `Uploading the cache`
 */
export function createProgress(what: string, print: (line: string) => void): (bytes: number, total: number) => void {
  const start = performance.now();
  let pauseMs = FIRST_MS;
  let nextAt = start + pauseMs;
  return (bytes, total) => {
    const now = performance.now();
    if (now < nextAt) return;
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    nextAt = now + pauseMs;
    const rate = `${formatBytes((bytes / (now - start)) * 1000)}/s`;
    print(`${what}: ${formatBytes(bytes)}${total > 0 ? ` of ${formatBytes(total)}` : ""}, ${rate}`);
  };
}

/** `17 bytes`, `1.5 MiB`, `23 GiB`. */
export function formatBytes(bytes: number): string {
  const units = ["KiB", "MiB", "GiB", "TiB"] as const;
  if (bytes < 1024) return `${Math.round(bytes)} bytes`;
  let size = bytes / 1024;
  let unit = 0;
  for (; size >= 1023.5 && unit < units.length - 1; unit++) size /= 1024;
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}
