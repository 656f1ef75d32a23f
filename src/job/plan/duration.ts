/** Durations as jobs write them and traces show them: Go's notation, `1h30m`, `90s`, `1.5h`. */

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** `text` in milliseconds, maybe negative; `undefined` where it is no duration. */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim();
  if (trimmed.length > 100) return undefined;
  const match = /^([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)$/.exec(trimmed);
  if (match === null) return undefined;
  let totalMs = 0;
  for (const [, number = "", unit = ""] of (match[2] ?? "").matchAll(/(\d+\.?\d*|\.\d+)([a-zµμ]+)/g)) {
    totalMs += Number(number) * (UNIT_MS[unit] ?? 0);
  }
  return match[1] === "-" ? -totalMs : totalMs;
}

/** `3723000` → `1h2m3s`; `250` → `250ms`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const totalSeconds = Math.round(ms / 100) / 10;
  const hours = Math.floor(totalSeconds / 3600);
  const minutes = Math.floor((totalSeconds % 3600) / 60);
  const seconds = Math.round((totalSeconds % 60) * 10) / 10;
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`;
  return minutes > 0 ? `${minutes}m${seconds}s` : `${seconds}s`;
}
