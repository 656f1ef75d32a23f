import { createHash } from "node:crypto";
import type { TarEntry } from "../../../src/files/tar.ts";
import { createSentences, fileName, fileNameText, type Sentences, type UnpackLimits } from "../../../src/workspace.ts";
import { parentOf } from "../../common/files/paths.ts";
import { admitted, type Directory, refused, type Tally } from "../../common/files/unpack-rules.ts";
import type { Contents } from "./contents.ts";

/** How entries are written for what unpacks them. */
export interface Encoding {
  before(entry: TarEntry): Buffer;
  after(entry: TarEntry): Buffer;
  readonly end: Buffer;
}

/** What of an archive goes to the staging directory, by clean paths. */
export interface Staged extends Tally {
  readonly warnings: Sentences;
  /** Directories that are entries themselves. */
  readonly directories: Map<string, Directory>;
  /** All directories, those above an entry too; `""` is the top. */
  readonly made: Set<string>;
  readonly files: Set<string>;
  readonly links: Map<string, TarEntry>;
  /** What is known of each entry, if that is wanted. */
  readonly contents: Contents | null;
  /** The archive was read and vetted to its end. */
  complete: boolean;
}

interface VetOptions {
  readonly limits: UnpackLimits;
  readonly encoding: Encoding;
  /** Names that differ in case only mean the same file there. */
  readonly caseless: boolean;
  /** Bytes that are free there; `null`: not known. */
  free(): Promise<number | null>;
}

const PIECE_BYTES = 256 * 1024;

export function nothingStaged(contents: Contents | null = null): Staged {
  return {
    entries: 0,
    bytes: 0,
    warnings: createSentences(),
    directories: new Map(),
    made: new Set([""]),
    files: new Set(),
    links: new Map(),
    contents,
    complete: false,
  };
}

/**
 * The entries of an untrusted tar as they may be unpacked: names are clean and below the top, links come last, so that nothing
 * goes through them, directories can be written to, nothing else is in it.
 * @throws {ScriptFailure} it is damaged, hostile, or larger than its limits
 */
export async function* vetted(
  tar: AsyncIterable<unknown>,
  staged: Staged,
  { limits, encoding, caseless, free }: VetOptions,
): AsyncGenerator<Buffer> {
  const { directories, made, files, links, warnings, contents } = staged;
  const seen = new Map<string, string>();
  const noteCase = (path: string): boolean => {
    if (!caseless) return false;
    const key = Buffer.from(path, "latin1").toString().toLowerCase();
    const first = seen.get(key);
    seen.set(key, first ?? path);
    return first !== undefined && first !== path;
  };
  const make = (path: string): void => {
    if (made.has(path)) return;
    make(parentOf(path));
    if (files.has(path)) throw refused(path, "is a file and a directory");
    if (noteCase(path)) {
      warnings.add(`${fileNameText(path)} differs from another name only in case: on this machine they are one.`);
    }
    made.add(path);
  };

  for await (const { path, item } of admitted(tar, limits, staged, free)) {
    const entry = { ...item, name: fileName(`./${path}`), mode: item.mode & 0o777 };
    if (item.kind === "directory") {
      if (links.has(path)) throw refused(path, "is a link and a directory");
      make(path);
      contents?.directory(path, entry);
      directories.set(path, { mode: item.mode, mtimeSeconds: item.mtimeSeconds });
      yield encoding.before({ ...entry, mode: 0o700 });
      continue;
    }
    make(parentOf(path));
    if (item.kind === "symlink") links.set(path, entry);
    else {
      if (made.has(path)) throw refused(path, "is a file and a directory");
      if (files.has(path)) warnings.add(`${fileNameText(path)} is in the archive twice: the last one stays.`);
      else if (noteCase(path)) {
        warnings.add(
          `${fileNameText(path)} differs from another name only in case: on this machine the last one stays.`,
        );
      }
      links.delete(path);
      files.add(path);
      yield encoding.before(entry);
      const sum = contents === null ? null : createHash("sha256");
      for (let left = item.size; left > 0; ) {
        const piece = await item.body.some(Math.min(left, PIECE_BYTES));
        left -= piece.length;
        sum?.update(piece);
        yield piece;
      }
      if (sum !== null) contents?.file(path, entry, sum.digest("hex"));
      yield encoding.after(entry);
    }
  }
  for (const [path, entry] of links) {
    if (made.has(path)) throw refused(path, "is a link, and there are entries below it");
    files.delete(path);
    contents?.link(path, entry.target);
    yield encoding.before(entry);
  }
  staged.complete = true;
  yield encoding.end;
}

/** Small pieces as fewer larger ones. */
export async function* gathered(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let waiting: Buffer[] = [];
  let size = 0;
  for await (const piece of pieces) {
    waiting.push(piece);
    size += piece.length;
    if (size < PIECE_BYTES) continue;
    yield waiting.length === 1 ? piece : Buffer.concat(waiting);
    [waiting, size] = [[], 0];
  }
  if (size > 0) yield Buffer.concat(waiting);
}
