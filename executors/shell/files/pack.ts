import { constants, type Stats } from "node:fs";
import { type FileHandle, lstat, open, readlink } from "node:fs/promises";
import { Readable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { tarEnd, tarHeader, tarPadding } from "../../../src/files/tar.ts";
import { tidyAfter } from "../../../src/files/tidy.ts";
import {
  createSentences,
  type FileName,
  fileName,
  fileNameText,
  type PackedFiles,
  type Sentences,
} from "../../../src/workspace.ts";
import { pathOf } from "../../common/files/paths.ts";
import { bytesOf, codeOf, isMissing, unreadable } from "./paths.ts";

/** Files that are opened ahead of their turn. */
const AHEAD = 16;
/** A file up to this size is read into one piece of the tar together with others. */
const SMALL_BYTES = 256 * 1024;
const PIECE_BYTES = 1024 * 1024;
/** Never wait for the other end of a pipe, never follow a link that was put in a file's place. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** Where opening follows links all the same, what is there is looked at first. */
const LOOKS_FIRST = process.platform === "win32";

type Opened =
  | { readonly kind: "header"; readonly header: Buffer }
  | { readonly kind: "file"; readonly path: FileName; readonly file: FileHandle; readonly stats: Stats }
  | { readonly kind: "gone" };
type OpenedFile = Extract<Opened, { kind: "file" }>;

/** `WorkspaceFiles.pack` on this machine. */
export function packFiles(root: string, paths: readonly FileName[], signal: AbortSignal): PackedFiles {
  const warnings = createSentences();
  const tar = Readable.from(blocks(pathOf(root), paths, warnings, signal), {
    objectMode: false,
    highWaterMark: PIECE_BYTES,
  });
  return { tar, warnings: warnings.list };
}

async function* blocks(
  top: string,
  paths: readonly FileName[],
  warnings: Sentences,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const ahead: Promise<Opened>[] = [];
  let next = 0;
  const fill = (): void => {
    while (ahead.length < AHEAD && next < paths.length) {
      const path = paths[next++];
      if (path === undefined) continue;
      const opening = openOne(top, path, warnings);
      opening.catch(() => {}); // its failure is thrown when its turn comes
      ahead.push(opening);
    }
  };
  const piece = createPiece(warnings);
  try {
    for (fill(); ahead.length > 0; fill()) {
      signal.throwIfAborted();
      const opened = await ahead.shift();
      if (opened === undefined || opened.kind === "gone") continue;
      if (opened.kind === "header") {
        if (!piece.fits(opened.header.length)) yield await piece.take();
        piece.put(opened.header);
        continue;
      }
      const header = headerOf(opened);
      if (opened.stats.size <= SMALL_BYTES) {
        if (!piece.fits(header.length + opened.stats.size + BLOCK)) yield await piece.take();
        piece.put(header);
        piece.read(opened);
        continue;
      }
      const before = await piece.take();
      if (before.length > 0) yield before;
      yield* readLarge(opened, header, warnings, signal);
    }
    if (!piece.fits(tarEnd.length)) yield await piece.take();
    piece.put(tarEnd);
    yield await piece.take();
  } finally {
    await piece.take().catch(() => {});
    for (const opening of ahead) {
      const opened = await opening.catch(() => null);
      if (opened?.kind === "file") await opened.file.close();
    }
  }
}

const BLOCK = 512;

interface Piece {
  fits(bytes: number): boolean;
  put(bytes: Buffer): void;
  /** Read a small file to where it belongs, while others are read, too. It is closed. */
  read(file: OpenedFile): void;
  /** What is there, once all of it was read. */
  take(): Promise<Buffer>;
}

/** A stretch of the tar, into which files are read directly. */
function createPiece(warnings: Sentences): Piece {
  let bytes: Buffer | undefined;
  let used = 0;
  let reading: Promise<void>[] = [];
  const room = (length: number): Buffer => {
    bytes ??= Buffer.allocUnsafeSlow(PIECE_BYTES);
    const its = bytes.subarray(used, used + length);
    used += length;
    return its;
  };
  return {
    fits: (length) => used + length <= PIECE_BYTES,
    put: (its) => room(its.length).set(its),
    read({ path, file, stats: { size } }) {
      const its = room(size + tarPadding(size));
      its.fill(0, size);
      const work = readSmall(its.subarray(0, size), { path, file }, warnings);
      work.catch(() => {}); // heard when the piece is taken
      reading.push(work);
    },
    async take() {
      const [its, work] = [bytes?.subarray(0, used) ?? Buffer.alloc(0), reading];
      [bytes, used, reading] = [undefined, 0, []];
      for (const result of await Promise.allSettled(work)) if (result.status === "rejected") throw result.reason;
      tidyAfter(its.length);
      return its;
    },
  };
}

async function readSmall(
  into: Buffer,
  { path, file }: Pick<OpenedFile, "path" | "file">,
  warnings: Sentences,
): Promise<void> {
  try {
    for (let have = 0; have < into.length; ) {
      const { bytesRead } = await file.read(into, have, into.length - have, null);
      if (bytesRead === 0) {
        warnings.add(shorter(path));
        into.fill(0, have);
        break;
      }
      have += bytesRead;
    }
  } catch (error) {
    throw unreadable(path, error);
  } finally {
    await file.close();
  }
}

function shorter(path: FileName): string {
  return `${fileNameText(path)} has become shorter while it was read: zeros stand for the rest.`;
}

function headerOf({ path, stats }: Pick<OpenedFile, "path" | "stats">, target = fileName("")): Buffer {
  const kind = stats.isDirectory() ? "directory" : stats.isSymbolicLink() ? "symlink" : "file";
  const size = kind === "file" ? stats.size : 0;
  return tarHeader({ name: path, kind, size, mode: stats.mode & 0o777, mtimeSeconds: stats.mtimeMs / 1000, target });
}

async function openOne(top: string, path: FileName, warnings: Sentences): Promise<Opened> {
  const full = bytesOf(`${top}/${path}`);
  const gone = (why: string): Opened => {
    warnings.add(`${fileNameText(path)} ${why}: it is left out.`);
    return { kind: "gone" };
  };
  let file: FileHandle | undefined;
  try {
    if (LOOKS_FIRST) {
      const found = await lstat(full);
      if (!found.isFile()) return await odd(full, path, found, gone);
    }
    file = await open(full, FLAGS);
    const stats = await file.stat();
    if (stats.isFile()) return { kind: "file", path, file, stats };
    await file.close();
    return await odd(full, path, stats, gone);
  } catch (error) {
    await file?.close().catch(() => {});
    if (isMissing(error)) return gone("has vanished");
    // A link, a socket or a directory that may not be read: what is packed of them is not what they hold.
    const found = file === undefined ? await lstat(full).catch(() => null) : null;
    if (found === null || found.isFile()) throw unreadable(path, error);
    return await odd(full, path, found, gone);
  }
}

/** What is no file. */
async function odd(full: Buffer, path: FileName, stats: Stats, gone: (why: string) => Opened): Promise<Opened> {
  if (stats.isDirectory()) return { kind: "header", header: headerOf({ path, stats }) };
  if (!stats.isSymbolicLink()) return gone("is a socket, a pipe or a device");
  try {
    return {
      kind: "header",
      header: headerOf({ path, stats }, fileName(await readlink(full, { encoding: "buffer" }))),
    };
  } catch (error) {
    if (isMissing(error) || codeOf(error) === "EINVAL") return gone("has vanished");
    throw unreadable(path, error);
  }
}

/** As many bytes as were announced: one that grows is cut there, one that shrinks is filled up with zeros. */
async function* readLarge(
  { path, file, stats: { size } }: OpenedFile,
  header: Buffer,
  warnings: Sentences,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const read = async (left: number): Promise<Buffer> => {
    const piece = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, left));
    const { bytesRead } = await file.read(piece, 0, piece.length, null).catch((cause: unknown) => {
      throw new SystemFailure(`Cannot read ${fileNameText(path)}`, { cause });
    });
    return piece.subarray(0, bytesRead);
  };
  let coming: Promise<Buffer> | undefined;
  try {
    yield header;
    let left = size;
    coming = read(left);
    while (left > 0) {
      signal.throwIfAborted();
      let piece: Buffer = await coming;
      if (piece.length === 0) {
        warnings.add(shorter(path));
        for (; left > 0; left -= piece.length) {
          piece = Buffer.alloc(Math.min(PIECE_BYTES, left));
          yield piece;
        }
        break;
      }
      left -= piece.length;
      tidyAfter(piece.length);
      if (left > 0) {
        coming = read(left);
        coming.catch(() => {}); // its failure is thrown in the next round
      }
      yield piece;
    }
    yield Buffer.alloc(tarPadding(size));
  } finally {
    await coming?.catch(() => {});
    await file.close();
  }
}
