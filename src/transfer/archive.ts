import type { FileHandle } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { describeError, ScriptFailure, SystemFailure } from "../errors.ts";
import { MOST_ENTRIES, type UnpackLimits } from "../workspace.ts";
import { zipToTar } from "./zip/read.ts";
import { zstdContents } from "./zstd.ts";

export { type PackOptions, tarToZip } from "./zip/write.ts";
export { tarToZstd } from "./zstd.ts";

const PIECE_BYTES = 256 * 1024;

type ArchiveFormat = "zip" | "zstd" | "gzip";

/** The format by the archive's first bytes, whatever the file is called. */
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
  const contents = format === "zstd" ? zstdContents(file) : gunzipped(file);
  return Readable.from(contents, { objectMode: false, highWaterMark: PIECE_BYTES });
}

async function* gunzipped(file: FileHandle): AsyncGenerator<Uint8Array> {
  const through = createGunzip({ chunkSize: PIECE_BYTES });
  const running = pipeline(Readable.from(bytesOf(file), { objectMode: false }), through);
  running.catch(() => {}); // the reader of the stream gets the error
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

/**
 * Any archive may unpack to this much, and a larger one to a multiple of its size: archive bombs are far beyond both.
 */
export const LEAST_BYTES = 20 * 1024 ** 3;
const MOST_TIMES = 100;

/** What an archive of this size may unpack to. */
export function unpackLimits(archiveBytes: number, freeBytes: number): UnpackLimits {
  return { bytes: Math.max(LEAST_BYTES, archiveBytes * MOST_TIMES), entries: MOST_ENTRIES, freeBytes };
}
