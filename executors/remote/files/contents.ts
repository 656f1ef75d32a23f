import { createHash } from "node:crypto";
import type { ContentsDigest } from "../../../src/workspace.ts";
import { compareBytes } from "../../common/files/paths.ts";

/** What a file has besides what is in it. Bits of a mode beyond these are not unpacked, and must not be there. */
export interface Attributes {
  readonly mode: number;
  readonly size: number;
  /** Of last modification. */
  readonly mtimeSeconds: number;
}

/**
 * What makes up a tree: names, kinds, modes, sizes, times of files, where links lead, and what is in files. The same is gathered of
 * an archive while it is unpacked and of files that lie somewhere, and compared.
 */
export interface Contents {
  directory(path: string, attributes: Pick<Attributes, "mode">): void;
  /** @param sum SHA-256 of what is in it; empty where that was not looked at */
  file(path: string, attributes: Attributes, sum: string): void;
  link(path: string, target: string): void;
  digest(): ContentsDigest;
}

export function createContents(): Contents {
  const entries = new Map<string, readonly [attributes: string, sum: string]>();
  return {
    directory: (path, { mode }) => void entries.set(path, [`directory ${mode & 0o7777}`, ""]),
    file: (path, { mode, size, mtimeSeconds }, sum) =>
      void entries.set(path, [`file ${mode & 0o7777} ${size} ${mtimeSeconds}`, sum]),
    link: (path, target) => void entries.set(path, [`link ${target}`, ""]),
    digest() {
      const sorted = [...entries].sort(([a], [b]) => compareBytes(a, b));
      const digest = (withSums: boolean): string => {
        const hash = createHash("sha256");
        for (const [path, [attributes, sum]] of sorted) {
          hash.update(`${path}\0${attributes}\0${withSums ? sum : ""}\0`, "latin1");
        }
        return hash.digest("hex");
      };
      return { entries: sorted.length, attributes: digest(false), all: digest(true) };
    },
  };
}

interface Gathered {
  readonly contents: Contents | null;
  /** All directories. */
  readonly made: ReadonlySet<string>;
  /** Those that the archive tells of. */
  readonly directories: ReadonlyMap<string, unknown>;
}

/** `null`: not wanted, or there are directories that the archive says nothing of. */
export function contentsOf(
  { contents, made, directories }: Gathered,
  placed: readonly string[],
): ContentsDigest | null {
  if (contents === null) return null;
  const inPlaced = (path: string): boolean => placed.some((top) => path === top || path.startsWith(`${top}/`));
  for (const path of made) if (path !== "" && !directories.has(path) && inPlaced(path)) return null;
  return contents.digest();
}
