import { isAbsolute, resolve } from "node:path";
import { followTrusted } from "../../files/trusted-path.ts";

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
  /** Why the two directories differ, if they do. */
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
  const doubt = otherUser ? (await followTrusted(dir)).doubt : undefined;
  if (doubt === undefined) return { dir, oldDir: dir, reason: undefined };
  return { dir: fallback, oldDir: dir, reason: `${doubt}; caches are kept in ${fallback}` };
}
