/** What can still be read of a JSON text that is broken or cut. */

/** A job's id and token stand near its beginning. */
const MOST_STEPS = 1_000_000;

/** A whole number, or text without escapes that could stand in a header. */
export type Salvaged = ReadonlyMap<string, string>;

/**
 * The values of `names` at the top level of an object, as far as the text can be followed. Values that are cut, are not
 * text or whole numbers, or have an escape in them are left out. Never throws.
 */
export function salvage(text: string, names: readonly string[]): Salvaged {
  const found = new Map<string, string>();
  let depth = 0;
  let key: string | undefined;
  let at = 0;
  for (let steps = 0; at < text.length && found.size < names.length && steps < MOST_STEPS; steps++) {
    const char = text[at];
    if (char === '"') {
      const end = endOfString(text, at);
      if (end === -1) break;
      const content = text.slice(at + 1, end);
      at = end + 1;
      if (depth !== 1) continue;
      if (key === undefined) key = content;
      else keep(found, names, key, content);
    } else if (char === "{" || char === "[") {
      depth++;
      at++;
    } else if (char === "}" || char === "]") {
      depth--;
      at++;
    } else if (char === "," && depth === 1) {
      key = undefined;
      at++;
    } else if (depth === 1 && key !== undefined && char !== undefined && /[-\d]/.test(char)) {
      const digits = /^-?\d+/.exec(text.slice(at, at + 32))?.[0] ?? "";
      // A number at the very end may have lost digits.
      if (/[\s,}]/.test(text[at + digits.length] ?? "")) keep(found, names, key, digits);
      at += Math.max(1, digits.length);
    } else at++;
  }
  return found;
}

function keep(found: Map<string, string>, names: readonly string[], key: string, value: string): void {
  if (names.includes(key) && !found.has(key) && value !== "" && !value.includes("\\")) found.set(key, value);
}

/** Index of the quote that ends the string which begins at `start`, or -1. */
export function endOfString(text: string, start: number): number {
  for (let quote = text.indexOf('"', start + 1); quote !== -1; quote = text.indexOf('"', quote + 1)) {
    let slashes = 0;
    while (text[quote - 1 - slashes] === "\\") slashes++;
    if (slashes % 2 === 0) return quote;
  }
  return -1;
}
