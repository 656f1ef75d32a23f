import { createWriteStream } from "node:fs";
import { type FileHandle, rm, stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createGunzip, createZstdCompress, createZstdDecompress } from "node:zlib";
import { describeError, ScriptFailure, SystemFailure } from "../errors.ts";
import { MOST_ENTRIES, type UnpackLimits } from "../workspace.ts";
import type { CompressionLevel } from "./transfer.ts";
import { zipToTar } from "./zip/read.ts";
import type { PackOptions } from "./zip/write.ts";

export { type PackOptions, tarToZip } from "./zip/write.ts";

const ZSTD_LEVELS: Readonly<Record<CompressionLevel, number>> = {
  fastest: 1,
  fast: 2,
  default: 3,
  slow: 8,
  slowest: 15,
};
const PIECE_BYTES = 256 * 1024;

/**
 * Compress a tar as a whole with Zstandard: quicker and smaller than zip, but nothing in it can be reached by itself.
 * @param path must not exist; removed again when this rejects
 */
export async function tarToZstd(
  tar: Readable,
  path: string,
  { level }: PackOptions,
  signal: AbortSignal,
): Promise<{ readonly bytes: number }> {
  const through = createZstdCompress({
    chunkSize: PIECE_BYTES,
    params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVELS[level], [constants.ZSTD_c_checksumFlag]: 1 },
  });
  try {
    await pipeline(tar, through, createWriteStream(path, { flags: "wx", mode: 0o600 }), { signal });
    return { bytes: (await stat(path)).size };
  } catch (error) {
    await rm(path, { force: true });
    signal.throwIfAborted();
    throw error instanceof ScriptFailure || error instanceof SystemFailure
      ? error
      : new SystemFailure(`Cannot write ${path}`, { cause: error });
  }
}

type ArchiveFormat = "zip" | "zstd" | "gzip";

/** By its first bytes, whatever it is called. */
async function sniffArchive(file: FileHandle): Promise<ArchiveFormat> {
  const bytes = Buffer.alloc(4);
  await file.read(bytes, 0, 4, 0);
  if (bytes.readUInt32LE(0) === 0xfd2fb528) return "zstd";
  return bytes.readUInt16LE(0) === 0x8b1f ? "gzip" : "zip";
}

/**
 * The entries of an archive as an uncompressed tar, whatever kind of archive it is: zip, or tar in Zstandard or gzip.
 * @param file stays open, and is the caller's to close once the stream has ended. Not a path: who opens a place that others
 *   can write to has looked at this very file
 * @param name for messages
 * @throws {ScriptFailure} on the stream: it is damaged or none of these
 * @throws {SystemFailure} it cannot be read
 */
export async function openArchive(
  file: FileHandle,
  name: string,
  limits: Pick<UnpackLimits, "bytes" | "entries">,
  signal: AbortSignal,
): Promise<Readable> {
  const format = await sniffArchive(file).catch((cause: unknown) => {
    throw new SystemFailure(`Cannot read ${name}`, { cause });
  });
  if (format === "zip") return zipToTar(file, limits, signal);
  return Readable.from(decompressed(file, format), { objectMode: false, highWaterMark: PIECE_BYTES });
}

async function* decompressed(file: FileHandle, format: "zstd" | "gzip"): AsyncGenerator<Uint8Array> {
  const chunkSize = PIECE_BYTES;
  const through = format === "zstd" ? createZstdDecompress({ chunkSize }) : createGunzip({ chunkSize });
  const running = pipeline(Readable.from(bytesOf(file), { objectMode: false }), through);
  running.catch(() => {}); // the reader hears of it
  try {
    for await (const piece of through) yield piece;
    await running;
  } catch (error) {
    throw new ScriptFailure(`the archive is damaged: it cannot be decompressed (${describeError(error)})`);
  } finally {
    through.destroy();
    await running.catch(() => {});
  }
}

async function* bytesOf(file: FileHandle): AsyncGenerator<Buffer> {
  for (let at = 0; ; ) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(PIECE_BYTES), 0, PIECE_BYTES, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Any archive may unpack to so much, a larger one to so many times its size: bombs are far beyond both. */
export const LEAST_BYTES = 20 * 1024 ** 3;
const MOST_TIMES = 100;

/** What an archive of this size may unpack to. */
export function unpackLimits(archiveBytes: number, freeBytes: number): UnpackLimits {
  return { bytes: Math.max(LEAST_BYTES, archiveBytes * MOST_TIMES), entries: MOST_ENTRIES, freeBytes };
}
