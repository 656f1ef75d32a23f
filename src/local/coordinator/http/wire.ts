/** JSON objects as they travel. */
export type Wire = Readonly<Record<string, unknown>>;

export function isWire(value: unknown): value is Wire {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `value[key]` if that is an object, else `{}`. */
export function tableAt(value: Wire, key: string): Wire {
  const found = value[key];
  return isWire(found) ? found : {};
}

/** `value[key]` if that is a text, else `undefined`. */
export function textAt(value: Wire, key: string): string | undefined {
  const found = value[key];
  return typeof found === "string" ? found : undefined;
}

export function stringsAt(value: Wire, key: string): string[] | undefined {
  const found = value[key];
  return Array.isArray(found) ? found.filter((entry) => typeof entry === "string") : undefined;
}
