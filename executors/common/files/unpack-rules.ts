import { ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import { LONGEST_PATH_BYTES, readTar, type TarItem } from "../../../src/files/tar.ts";
import { createTurns } from "../../../src/time.ts";
import { fileNameText, type UnpackLimits } from "../../../src/workspace.ts";
import { below } from "./paths.ts";

/**
 * Rules for archives: what none of them may do, and how entries come to their places. They hold wherever a job's files are.
 */

/** The most directories that an entry may lie in. */
export const DEEPEST = 256;
/**
 * The most that the names of all entries and the targets of links may have together: they are in memory until the last entry
 * is there.
 */
export const MOST_NAME_BYTES = 64 * 1024 * 1024;
/** The free disk is looked at again after so many bytes. */
const LOOK_BYTES = 64 * 1024 * 1024;

export function refused(path: string, why: string): ScriptFailure {
  return new ScriptFailure(`the archive is refused: ${fileNameText(path)} ${why}`);
}

/** A path of an archive, cleaned; `""` is the checkout itself. */
function cleanName(name: string): string {
  if (name.startsWith("/")) throw refused(name, "is an absolute path");
  if (name.length > LONGEST_PATH_BYTES) {
    throw refused(`${name.slice(0, 100)}...`, `has too long a path (more than ${LONGEST_PATH_BYTES} bytes)`);
  }
  const segments = name.split("/").filter((segment) => segment !== "" && segment !== ".");
  if (segments.includes("..")) throw refused(name, "leaves the project");
  if (segments.length > DEEPEST)
    throw refused(`${name.slice(0, 100)}...`, `lies too deep (more than ${DEEPEST} directories)`);
  return segments.join("/");
}

/** What was admitted so far. */
export interface Tally {
  entries: number;
  bytes: number;
}

interface Admitted {
  /** Clean, below the top and not the top itself. */
  readonly path: string;
  /** A file, a directory, or a link to something. */
  readonly item: TarItem;
}

/**
 * The entries of an untrusted tar that may be unpacked, as far as each can be judged by itself.
 * @param free bytes that are free where they go; `null`: not known
 * @throws {ScriptFailure} the archive is damaged, hostile, or larger than its limits
 * @throws {SystemFailure} the disk has no room for it
 */
export async function* admitted(
  tar: AsyncIterable<unknown>,
  limits: UnpackLimits,
  tally: Tally,
  free: () => Promise<number | null>,
): AsyncGenerator<Admitted> {
  let looked = Number.NEGATIVE_INFINITY;
  let nameBytes = 0;
  const turn = createTurns();
  const makeSureOfRoom = async (size: number): Promise<void> => {
    if (tally.bytes + size - looked < LOOK_BYTES && size < LOOK_BYTES) return;
    looked = tally.bytes;
    const left = await free();
    const spare = limits.freeBytes === 0 ? 0 : LOOK_BYTES; // written before the next look
    if (left === null || left - size >= limits.freeBytes + spare) return;
    throw new SystemFailure(
      `Cannot unpack: the disk has ${left} bytes free, too few for the archive and what must stay free (min_free_disk)`,
    );
  };
  for await (const item of readTar(tar)) {
    const { kind, size } = item;
    const path = cleanName(item.name);
    if (++tally.entries > limits.entries) {
      throw new ScriptFailure(`the archive has more than ${limits.entries} entries`);
    }
    nameBytes += item.name.length + item.target.length;
    if (nameBytes > MOST_NAME_BYTES) {
      throw new ScriptFailure(`the names in the archive have more than ${MOST_NAME_BYTES} bytes together`);
    }
    await turn();
    if (tally.bytes + size > limits.bytes) {
      throw new ScriptFailure(`the archive is larger than ${limits.bytes} bytes when it is unpacked`);
    }
    if (kind === "directory") {
      if (path !== "") yield { path, item }; // the checkout keeps what it has
      continue;
    }
    if (path === "") throw refused(item.name, "has no name");
    if (kind !== "file" && kind !== "symlink") {
      throw refused(path, `is a ${kind === "other" ? "thing of an unknown kind" : kind}`);
    }
    if (kind === "symlink" && item.target === "") throw refused(path, "is a link to nothing");
    if (item.target.length > LONGEST_PATH_BYTES) {
      throw refused(path, `leads to too long a path (more than ${LONGEST_PATH_BYTES} bytes)`);
    }
    await makeSureOfRoom(size);
    tally.bytes += size;
    yield { path, item };
  }
}

export interface Directory {
  readonly mode: number;
  readonly mtimeSeconds: number;
}

export interface Move {
  readonly from: string;
  readonly to: string;
  /** Something else is there, which is removed first. */
  readonly clear: boolean;
  /** Nothing is there. */
  readonly free: boolean;
}

export type PlaceKind = "directory" | "symlink" | "other";

interface MovePlan {
  /** The directory where the entries are now, laid out as they will be. */
  readonly staging: string;
  /** The directory that they belong in. */
  readonly top: string;
  /** Directories that are entries themselves. */
  readonly entries: ReadonlyMap<string, unknown>;
  /** Names in a directory of `staging`. */
  names(inside: string): Promise<readonly string[]>;
  /** What is at an absolute path; a link is not followed; `null`: nothing. */
  look(path: string): Promise<PlaceKind | null>;
}

/**
 * What is moved where. A directory that is not there yet moves as a whole. Nothing is changed yet, so that an archive that is
 * refused here leaves no trace.
 */
export async function planMoves({ staging, top, entries, names, look }: MovePlan): Promise<Move[]> {
  const moves: Move[] = [];
  const turn = createTurns();
  const visit = async (inside: string): Promise<void> => {
    for (const name of await names(inside)) {
      await turn();
      const path = below(inside, name);
      const [from, to] = [`${staging}/${path}`, below(top, path)];
      const [ours, theirs] = [await look(from), await look(to)];
      if (ours === null) continue;
      if (theirs === null) moves.push({ from, to, clear: false, free: true });
      else if (ours !== "directory") {
        if (theirs === "directory") throw refused(path, "is a directory in the working copy");
        moves.push({ from, to, clear: false, free: false });
      } else if (theirs === "directory") await visit(path);
      else if (theirs === "symlink" && !entries.has(path)) {
        throw refused(path, "is a symbolic link in the working copy, and nothing is unpacked through links");
      } else moves.push({ from, to, clear: true, free: false });
    }
  };
  await visit("");
  return moves;
}
