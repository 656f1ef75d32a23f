import { lstat, realpath } from "node:fs/promises";
import { dirname, isAbsolute, resolve } from "node:path";

export interface CacheDirRequest {
  /** `cache_dir`, if set. */
  readonly configured: string | undefined;
  /** Base of a relative one. */
  readonly workingDirectory: string;
  /** A directory that only the runner can write to. */
  readonly fallback: string;
  /** Jobs run as another user than the runner, which is root then. */
  readonly otherUser: boolean;
}

export interface CacheDirs {
  /** Where caches are written. */
  readonly dir: string;
  /** Where the Go runner kept them. */
  readonly oldDir: string;
  /** Why they are two, if they are. */
  readonly reason: string | undefined;
}

/**
 * `cache_dir`, by default `cache` in the working directory. Root does not write where the jobs' user could put a link in
 * the way: then new caches go to the fallback.
 */
export async function chooseCacheDir(request: CacheDirRequest): Promise<CacheDirs> {
  const { configured, workingDirectory, fallback, otherUser } = request;
  const dir =
    configured !== undefined && isAbsolute(configured) ? configured : resolve(workingDirectory, configured ?? "cache");
  const doubt = otherUser ? await doubtAbout(dir) : undefined;
  if (doubt === undefined) return { dir, oldDir: dir, reason: undefined };
  return { dir: fallback, oldDir: dir, reason: `${doubt}; caches are kept in ${fallback}` };
}

/** Why others than root could change what `path` leads to. What does not exist yet is root's to make. */
async function doubtAbout(path: string): Promise<string | undefined> {
  let place = path;
  for (;;) {
    try {
      place = await realpath(place);
      break;
    } catch {
      // A link to nowhere is no directory that root could make.
      if ((await lstat(place).catch(() => null)) !== null) return `${place} leads nowhere`;
      if (dirname(place) === place) return undefined;
      place = dirname(place);
    }
  }
  for (let inside = false; ; inside = true, place = dirname(place)) {
    const { uid, mode } = await lstat(place);
    if (uid !== 0 && uid !== process.geteuid?.()) return `${place} belongs to another user`;
    // In a directory such as /tmp nobody can replace what root has made there.
    if ((mode & 0o022) !== 0 && !(inside && (mode & 0o1000) !== 0)) return `${place} can be written by other users`;
    if (dirname(place) === place) return undefined;
  }
}
