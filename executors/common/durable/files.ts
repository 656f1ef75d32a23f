import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";

/** Names, contents and limits of the files by which a script outlives whoever started it. */

/** What these are, for a later version that has others: the content of the file `v`. */
export const OUTPUT_FORMAT = 1;

/** Added to offsets in names, so that all have one length and sort as they follow. */
export const OFFSET_BASE = 1_000_000_000_000;
/** What a pump reads at once. */
export const READ_BYTES = 64 * 1024;
/** Reads that make one piece where there is room. */
export const PIECE_READS = 256;
/** Of output that was not taken yet: then the pump waits, and with it the script. */
export const WINDOW_BYTES = 64 * 1024 * 1024;
/** The window overshoots by one piece, so pieces are a small part of it; but each costs a process. */
const FEWEST_READS = 16;
const PIECES_PER_WINDOW = 4;

/** What is written over these needs no space: a full disk cannot take a script's status. */
export const BLANK_FILES = { root: 64, code: 32, end: 32, lost: 64 } as const;
const blanks = Object.entries(BLANK_FILES).map(([name, bytes]) => ({ name, content: Buffer.alloc(bytes, " ") }));

/** Nothing of these names may be there. */
export function writeBlankFiles(directory: string): void {
  for (const { name, content } of blanks) {
    const fd = openSync(join(directory, name), "wx", 0o600);
    try {
      if (writeSync(fd, content) !== content.length) throw new Error("no space");
    } finally {
      closeSync(fd);
    }
  }
}

export function readsPerPiece(windowBytes: number): number {
  const reads = Math.floor(windowBytes / READ_BYTES / PIECES_PER_WINDOW);
  return Math.min(PIECE_READS, Math.max(FEWEST_READS, reads));
}

export function pieceName(offset: number): string {
  return `o.${OFFSET_BASE + offset}`;
}

/** `null`: no name of a piece. */
export function pieceOffset(name: string): number | null {
  const [, digits] = /^o\.(\d{13})$/.exec(name) ?? [];
  const offset = Number(digits ?? Number.NaN) - OFFSET_BASE;
  return offset >= 0 ? offset : null;
}

/** The shell of a script, as the kernel named it when it began; a moment later it founds a session. */
export interface Root {
  readonly pid: number;
  readonly startedAt: number;
  /** Its attendant, which is older. */
  readonly attendant: number;
}

export interface Losses {
  /** Bytes that were saved before the first loss. */
  readonly at: number;
  /** Reads that could not be saved, or may not have been: each is at most `READ_BYTES`. */
  readonly reads: number;
  readonly why: "full" | "killed";
}

/** The program's status; `null`: it is not known yet. */
export function readCode(directory: string): number | null {
  const code = wholeNumber(readSmall(directory, "code"));
  return code !== null && code <= 255 ? code : null;
}

/** All that was printed, in bytes; `null`: there may be more. */
export function readEnd(directory: string): number | null {
  return wholeNumber(readSmall(directory, "end"));
}

export function readRoot(directory: string): Root | null {
  const pattern = /^(\d{1,10}) (\d{1,15}) (\d{1,10}) *\n/;
  const [, pid, startedAt, attendant] = pattern.exec(readSmall(directory, "root")) ?? [];
  return pid === undefined ? null : { pid: Number(pid), startedAt: Number(startedAt), attendant: Number(attendant) };
}

export function readLosses(directory: string): Losses | null {
  const [, at, reads, why] = /^(\d{1,15}) (\d{1,9}) (full|killed) *\n/.exec(readSmall(directory, "lost")) ?? [];
  if (why !== "full" && why !== "killed") return null;
  return { at: Number(at), reads: Number(reads), why };
}

/** A number counts once its line has an end. */
function wholeNumber(text: string): number | null {
  const [, digits] = /^(\d{1,15}) *\n/.exec(text) ?? [];
  return digits === undefined ? null : Number(digits);
}

/** A file to read from, and never a link, a pipe or a directory that somebody put in its place; `null`: there is none. */
export function openPlain(path: string): number | null {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  return null;
}

const small = Buffer.alloc(256);

/** What one of the small files begins with; empty where there is none. */
function readSmall(directory: string, name: keyof typeof BLANK_FILES): string {
  const fd = openPlain(join(directory, name));
  if (fd === null) return "";
  try {
    return small.toString("latin1", 0, readSync(fd, small, 0, small.length, 0));
  } catch {
    return "";
  } finally {
    closeSync(fd);
  }
}
