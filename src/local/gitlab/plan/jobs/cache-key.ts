import { createHash } from "node:crypto";
import { globMatcher } from "../../decide/glob.ts";

export interface FilesKey {
  readonly files: readonly string[];
  readonly prefix: string | undefined;
  /** Place of the cache among the job's. */
  readonly index: number;
}

/**
 * The key of a cache by the content of files, as GitLab makes it: a real runner's cache of the same files has the same key.
 * @param blobOf git's id of a file's content; `undefined`: there is none
 */
export function keyOfFiles(
  { files, prefix, index }: FilesKey,
  all: readonly string[],
  blobOf: (path: string) => string | undefined,
): string {
  const paths = files.flatMap((file) => (file.includes("*") ? all.filter(globMatcher(file)) : [file]));
  const blobs = [...new Set(paths.flatMap((path) => blobOf(path) ?? []))].sort();
  const digest = blobs.length === 0 ? "default" : createHash("sha1").update(blobs.join("-")).digest("hex");
  const names = files.map((file) => file.replace(/\..*$/, "").replaceAll("/", "_")).join("_");
  return `${prefix ?? `${index}_${names}`}-${digest}`;
}
