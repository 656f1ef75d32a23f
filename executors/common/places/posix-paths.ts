import { posix } from "node:path";

/** Paths in containers, whatever this machine's look like. */

/** Whether one path is the other, or lies inside it. */
export function contains(outer: string, inner: string): boolean {
  return inner === outer || inner.startsWith(outer === "/" ? outer : `${outer}/`);
}

/** Absolute, without doubled or trailing slashes. */
export function cleanPath(path: string): string {
  const clean = posix.normalize(posix.join("/", path));
  return clean.length > 1 && clean.endsWith("/") ? clean.slice(0, -1) : clean;
}
