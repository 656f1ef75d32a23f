import { constants, type Stats } from "node:fs";
import { type FileHandle, lstat, open, readlink } from "node:fs/promises";
import { Readable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { tarEnd, tarHeader, tarPadding } from "../../../src/files/tar.ts";
import {
  createSentences,
  type FileName,
  fileName,
  fileNameText,
  type PackedFiles,
  type Sentences,
} from "../../../src/workspace.ts";
import { pathOf } from "../../common/paths.ts";
import { bytesOf, codeOf, isMissing, unreadable } from "./paths.ts";

/** Files that are opened ahead of their turn. */
const AHEAD = 12;
/** A file up to this size is read whole, ahead of its turn. */
const SMALL_BYTES = 256 * 1024;
const PIECE_BYTES = 1024 * 1024;
/** Never wait for the other end of a pipe, never follow a link that was put in a file's place. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

type Opened =
  | { readonly kind: "whole"; readonly blocks: readonly Buffer[] }
  | { readonly kind: "large"; readonly path: FileName; readonly file: FileHandle; readonly stats: Stats }
  | { readonly kind: "gone" };

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
  let gathered: Buffer[] = [];
  let size = 0;
  try {
    for (fill(); ahead.length > 0; fill()) {
      signal.throwIfAborted();
      const opened = await ahead.shift();
      if (opened === undefined || opened.kind === "gone") continue;
      if (opened.kind === "whole") {
        for (const block of opened.blocks) {
          gathered.push(block);
          size += block.length;
        }
        if (size < PIECE_BYTES) continue;
      }
      if (size > 0) {
        yield Buffer.concat(gathered);
        [gathered, size] = [[], 0];
      }
      if (opened.kind === "large") yield* readLarge(opened, warnings, signal);
    }
    gathered.push(tarEnd);
    yield Buffer.concat(gathered);
  } finally {
    for (const opening of ahead) {
      const opened = await opening.catch(() => null);
      if (opened?.kind === "large") await opened.file.close();
    }
  }
}

async function openOne(top: string, path: FileName, warnings: Sentences): Promise<Opened> {
  const full = bytesOf(`${top}/${path}`);
  const gone = (why: string): Opened => {
    warnings.add(`${fileNameText(path)} ${why}: it is left out.`);
    return { kind: "gone" };
  };
  let file: FileHandle | undefined;
  try {
    const found = await lstat(full);
    const common = { name: path, mode: found.mode & 0o777, mtimeSeconds: found.mtimeMs / 1000 };
    const empty = fileName("");
    if (found.isDirectory()) {
      return { kind: "whole", blocks: [tarHeader({ ...common, kind: "directory", size: 0, target: empty })] };
    }
    if (found.isSymbolicLink()) {
      const target = fileName(await readlink(full, { encoding: "buffer" }));
      return { kind: "whole", blocks: [tarHeader({ ...common, kind: "symlink", size: 0, target })] };
    }
    if (!found.isFile()) return gone("is a socket, a pipe or a device");
    file = await open(full, FLAGS);
    const stats = await file.stat();
    if (!stats.isFile()) {
      await file.close();
      return gone("is no file any more");
    }
    if (stats.size > SMALL_BYTES) return { kind: "large", path, file, stats };
    const bytes = await readSmall(file, stats.size);
    await file.close();
    const header = tarHeader({ ...common, kind: "file", size: bytes.length, target: empty });
    return { kind: "whole", blocks: [header, bytes, Buffer.alloc(tarPadding(bytes.length))] };
  } catch (error) {
    await file?.close().catch(() => {});
    if (isMissing(error)) return gone("has vanished");
    if (codeOf(error) === "ELOOP" || codeOf(error) === "ENXIO") return gone("is no file any more");
    throw unreadable(path, error);
  }
}

async function readSmall(file: FileHandle, size: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(size);
  let have = 0;
  while (have < size) {
    const { bytesRead } = await file.read(bytes, have, size - have, null);
    if (bytesRead === 0) break;
    have += bytesRead;
  }
  return bytes.subarray(0, have);
}

/** As many bytes as were announced: one that grows is cut there, one that shrinks is filled up with zeros. */
async function* readLarge(
  { path, file, stats }: Extract<Opened, { kind: "large" }>,
  warnings: Sentences,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const { size } = stats;
  const read = async (left: number): Promise<Buffer> => {
    const piece = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, left));
    const { bytesRead } = await file.read(piece, 0, piece.length, null).catch((cause: unknown) => {
      throw new SystemFailure(`Cannot read ${fileNameText(path)}`, { cause });
    });
    return piece.subarray(0, bytesRead);
  };
  let coming: Promise<Buffer> | undefined;
  try {
    yield tarHeader({
      name: path,
      kind: "file",
      size,
      mode: stats.mode & 0o777,
      mtimeSeconds: stats.mtimeMs / 1000,
      target: fileName(""),
    });
    let left = size;
    coming = read(left);
    while (left > 0) {
      signal.throwIfAborted();
      let piece: Buffer = await coming;
      if (piece.length === 0) {
        warnings.add(`${fileNameText(path)} has become shorter while it was read: zeros stand for the rest.`);
        for (; left > 0; left -= piece.length) {
          piece = Buffer.alloc(Math.min(PIECE_BYTES, left));
          yield piece;
        }
        break;
      }
      left -= piece.length;
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
