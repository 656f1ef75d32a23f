import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { Readable } from "node:stream";
import type { UnpackReport } from "../../workspace.ts";
import { openArchive, tarToZip, tarToZstd, unpackLimits } from "../archive.ts";
import { mustHaveRoom } from "../room.ts";
import type { CompressionLevel, TransferContext } from "../transfer.ts";
import type { CacheFormat, MakeRoom, OnBytes } from "./cache-store.ts";

/** The free space of the disk is checked again after this many bytes. */
const LOOK_BYTES = 64 * 1024 * 1024;

export interface CachePacking {
  readonly format: CacheFormat;
  readonly level: CompressionLevel;
  /** What the disk must still have free. */
  readonly minFreeBytes: number;
  readonly makeRoom: MakeRoom;
  /** Bytes of the files together. */
  readonly totalBytes: number;
  readonly onBytes: OnBytes;
}

/**
 * @param path must not exist
 * @throws {SystemFailure} the disk is full
 * @throws what the tar stream fails with
 */
export async function packCache(
  tar: Readable,
  path: string,
  { format, level, minFreeBytes, makeRoom, totalBytes, onBytes }: CachePacking,
  signal: AbortSignal,
): Promise<void> {
  async function* watched(): AsyncGenerator<Uint8Array> {
    let bytes = 0;
    let looked = Number.NEGATIVE_INFINITY;
    for await (const piece of tar) {
      if (!(piece instanceof Uint8Array)) throw new TypeError("a tar must be a stream of bytes");
      bytes += piece.length;
      if (bytes - looked > LOOK_BYTES) {
        looked = bytes;
        await makeRoom(LOOK_BYTES);
        await mustHaveRoom(dirname(path), minFreeBytes);
      }
      onBytes(Math.min(bytes, totalBytes), totalBytes);
      yield piece;
    }
  }
  const stream = Readable.from(watched(), { objectMode: false });
  const pack = format === "zip" ? tarToZip : tarToZstd;
  try {
    await pack(stream, path, { level, minFreeBytes }, signal);
  } finally {
    stream.destroy();
    tar.destroy();
  }
}

/**
 * @throws {ScriptFailure} the archive is damaged, hostile or too large
 * @throws {SystemFailure} a full disk, missing rights
 */
export async function unpackCache(
  file: FileHandle,
  archiveBytes: number,
  { files, minFreeBytes }: Pick<TransferContext, "files" | "minFreeBytes">,
  signal: AbortSignal,
): Promise<UnpackReport> {
  const limits = unpackLimits(archiveBytes, minFreeBytes());
  const tar = await openArchive(file, "the cache", limits, signal);
  try {
    return await files.unpack(tar, limits, signal);
  } finally {
    tar.destroy();
  }
}
