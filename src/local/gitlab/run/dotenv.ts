/** A dotenv report as GitLab reads it: no quotes, no comments, no blank lines. */

const MOST_BYTES = 5 * 1024;
const MOST_VARIABLES = 20;

/** @returns a text: why GitLab would refuse it */
export function readDotenv(text: string): ReadonlyMap<string, string> | string {
  if (Buffer.byteLength(text) >= MOST_BYTES) return `it is not smaller than ${MOST_BYTES} bytes`;
  const found = new Map<string, string>();
  const lines = text.replace(/^\uFEFF/, "").split("\n");
  if (lines.at(-1) === "") lines.pop();
  for (const [index, line] of lines.entries()) {
    const split = line.indexOf("=");
    const key = line.slice(0, Math.max(0, split)).trim();
    if (split < 0 || !/^[A-Za-z0-9_]+$/.test(key)) return `line ${index + 1} is not NAME=value`;
    found.set(key, line.slice(split + 1).trim());
  }
  return found.size > MOST_VARIABLES ? `it has ${found.size} variables, and ${MOST_VARIABLES} is the limit` : found;
}
