/** An amount as Kubernetes writes it: `500m`, `1.5Gi`, `2e3`. */
export interface Quantity {
  readonly text: string;
  /** The amount in billionths, for comparing; smaller fractions are rounded up, as the cluster does. */
  readonly nano: bigint;
}

const FORM = /^\+?(\d{1,18})?(?:\.(\d{0,18}))?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d{1,2})?$/;
const DECIMAL: Readonly<Record<string, number>> = { n: -9, u: -6, m: -3, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const BINARY: Readonly<Record<string, bigint>> = {
  Ki: 2n ** 10n,
  Mi: 2n ** 20n,
  Gi: 2n ** 30n,
  Ti: 2n ** 40n,
  Pi: 2n ** 50n,
  Ei: 2n ** 60n,
};

/** `null`: no quantity, or none above zero. */
export function parseQuantity(text: string): Quantity | null {
  const trimmed = text.trim();
  const [matched, whole = "", fraction = "", unit = ""] = FORM.exec(trimmed) ?? [];
  if (matched === undefined || whole + fraction === "") return null;
  const binary = BINARY[unit];
  const exponent = binary !== undefined ? 0 : unit === "" ? 0 : (DECIMAL[unit] ?? Number(unit.slice(1)));
  const digits = BigInt(whole + fraction) * (binary ?? 1n);
  const shift = 9 + exponent - fraction.length;
  const divisor = shift < 0 ? 10n ** BigInt(-shift) : 1n;
  const nano = shift >= 0 ? digits * 10n ** BigInt(shift) : (digits + divisor - 1n) / divisor;
  return nano > 0n ? { text: trimmed, nano } : null;
}
