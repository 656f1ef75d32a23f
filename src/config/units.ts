/** Texts with units: `256MiB`, `7d`, `1h30m`. */

const SIZE = /^(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?i?b?)$/i;
const SIZE_FACTORS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** `256MiB`, `1.5 GB`, `4096` → bytes, all in powers of 1024; `null` when it is no size or none that can be counted. */
export function parseSize(text: string): number | null {
  const [, amount, unit] = SIZE.exec(text.trim()) ?? [];
  if (amount === undefined || unit === undefined) return null;
  const factor = SIZE_FACTORS[unit.toLowerCase().replace(/i?b?$/, "")];
  if (factor === undefined) return null;
  const bytes = Math.round(Number(amount) * factor);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

const DURATION = /^(?:\d{1,12}(?:\.\d{1,6})?\s*(?:ms|s|m|h|d|w)\s*)+$/i;
const DURATION_PART = /([\d.]+)\s*(ms|s|m|h|d|w)/gi;
const DURATION_FACTORS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** `7d`, `1h30m`, `15m0s` → milliseconds; a bare `30` is seconds; `null` when it is no duration. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (/^\d{1,12}$/.test(trimmed)) return Number(trimmed) * 1000;
  if (!DURATION.test(trimmed)) return null;
  let ms = 0;
  for (const [, amount, unit] of trimmed.matchAll(DURATION_PART)) {
    ms += Number(amount) * (DURATION_FACTORS[unit?.toLowerCase() ?? ""] ?? Number.NaN);
  }
  return Number.isSafeInteger(Math.round(ms)) ? Math.round(ms) : null;
}
