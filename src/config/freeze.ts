/** Freeze plain objects and lists, and all they hold. Others (a URL, a RegExp, a Buffer) stay: they break or refuse. */
export function deepFreeze(value: unknown): void {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (!Array.isArray(value) && prototype !== null && prototype !== Object.prototype) return;
  Object.freeze(value);
  for (const part of Object.values(value)) deepFreeze(part);
}
