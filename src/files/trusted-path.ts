import { lstat, readlink } from "node:fs/promises";
import { dirname, join } from "node:path";

/** How far a path leads through places that nobody but this account, or root, can change. */
export interface Followed {
  /** The deepest such place, without links in its name: it leads to the same thing until one of these two changes it. */
  readonly at: string;
  /** Names below `at`: what does not exist yet, or what others can change. */
  readonly rest: readonly string[];
  /** Why others could change what the path leads to; `undefined`: they cannot. What does not exist is ours to make then. */
  readonly doubt: string | undefined;
}

/** The kernel follows no more links than this. */
const MOST_LINKS = 40;

type Look = Awaited<ReturnType<typeof lstat>>;

/**
 * Follow `path`, name by name, as far as it can be trusted. A link counts only where it lies in a trusted directory: whoever can
 * write to a directory can put another link there at any moment, so the place that a link leads to now proves nothing.
 * @param path absolute
 */
export async function followTrusted(path: string): Promise<Followed> {
  let at = "/";
  let names = namesOf(path);
  let found: Look = await lstat(at);
  const first = distrust(at, found);
  if (first !== undefined) return { at, rest: names, doubt: first };
  let links = 0;
  /** The link that is being followed, and how many names come after it. */
  let link = { path: "", after: -1 };
  for (;;) {
    const [name, ...after] = names;
    // Other users can make a new name in the directory, but cannot replace one of ours.
    const shared = isShared(found) ? `${at} can be written by other users` : undefined;
    if (name === undefined) return { at, rest: [], doubt: found.isDirectory() ? shared : undefined };
    if (name === "..") {
      at = dirname(at);
      names = after;
      found = await lstat(at);
      continue;
    }
    const place = join(at, name);
    const next = await lstat(place).catch(() => null);
    if (next === null) {
      // Where a link leads to a missing place, no directory can be made.
      const lost = link.after >= 0 && names.length > link.after;
      return { at, rest: names, doubt: lost ? `${link.path} leads nowhere` : shared };
    }
    if (shared !== undefined && !isOwn(next)) return { at, rest: names, doubt: `${place} belongs to another user` };
    if (next.isSymbolicLink()) {
      if (++links > MOST_LINKS) return { at, rest: names, doubt: `${place} leads nowhere` };
      const target = await readlink(place);
      if (target.startsWith("/")) {
        at = "/";
        found = await lstat(at);
      }
      link = { path: place, after: after.length };
      names = [...namesOf(target), ...after];
      continue;
    }
    if (!next.isDirectory() && after.length > 0) return { at, rest: names, doubt: `${place} is no directory` };
    const doubt = next.isDirectory() ? distrust(place, next) : undefined;
    if (doubt !== undefined) return { at, rest: names, doubt };
    at = place;
    names = after;
    found = next;
  }
}

function namesOf(path: string): string[] {
  return path.split("/").filter((name) => name !== "" && name !== ".");
}

function isOwn({ uid }: Look): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

/** A directory such as /tmp, in which other users cannot replace our files. */
function isShared({ mode }: Look): boolean {
  return (Number(mode) & 0o022) !== 0;
}

/** Why others can replace what lies in a directory. */
function distrust(path: string, found: Look): string | undefined {
  if (!isOwn(found)) return `${path} belongs to another user`;
  return isShared(found) && (Number(found.mode) & 0o1000) === 0 ? `${path} can be written by other users` : undefined;
}

/** Whether a directory that lies in a trusted one can be trusted itself. */
export async function isTrustedDirectory(path: string): Promise<boolean> {
  const found = await lstat(path).catch(() => null);
  return found?.isDirectory() === true && isOwn(found) && !isShared(found);
}
