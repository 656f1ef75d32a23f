import type { FileHandle } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { promisify } from "node:util";
import { constants, createZstdDecompress, zstdCompress, zstdDecompress } from "node:zlib";
import { describeError, type ScriptFailure } from "../errors.ts";
import { createByteReader } from "../files/byte-reader.ts";
import { createArchiveFile } from "./archive-file.ts";
import type { CompressionLevel } from "./transfer.ts";
import { damaged, readAt } from "./zip/directory.ts";
import { decompressed, PIECE_BYTES, piecesOf } from "./zip/pieces.ts";
import type { PackOptions } from "./zip/write.ts";

/**
 * A stream in Zstandard as frames of one size, which are compressed and decompressed side by side: any reader takes them as one.
 * zstd's own threads cannot be had: both runtimes end the stream before those are done, and lose what is left.
 */

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

const ZSTD_LEVELS: Readonly<Record<CompressionLevel, number>> = {
  fastest: 1,
  fast: 2,
  default: 3,
  slow: 8,
  slowest: 15,
};
/**
 * Of a frame's content. Smaller ones find less that repeats. No other writer has this size, and the last frame of an archive never
 * has it: so an archive that was cut between two frames shows it.
 */
export const FRAME_BYTES = 8 * 1024 * 1024 - 4096;
/** Most bytes of content that are compressed at the same time; one more frame is being filled. */
const MOST_WEIGHT = (Math.min(availableParallelism(), 4) - 1) * FRAME_BYTES;
/** Frames that are decompressed ahead of their turn. */
const AHEAD = 2;
const MAGIC = 0xfd2fb528;

/**
 * Compress a tar as a whole: quicker and smaller than zip, but nothing in it can be reached by itself.
 * @param path must not exist; removed again when this rejects
 */
export async function tarToZstd(
  tar: AsyncIterable<unknown>,
  path: string,
  { level, minFreeBytes }: PackOptions,
  signal: AbortSignal,
): Promise<{ readonly bytes: number }> {
  const file = await createArchiveFile(path, minFreeBytes, MOST_WEIGHT);
  const params = { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVELS[level], [constants.ZSTD_c_checksumFlag]: 1 };
  const reader = createByteReader(tar);
  // Buffers that are used again once their content is written.
  const spare: Buffer[] = [];
  try {
    for (let last = false; !last; ) {
      signal.throwIfAborted();
      const plain = await frameOf(reader, spare.pop() ?? Buffer.allocUnsafeSlow(FIRST_BYTES));
      last = plain.length < FRAME_BYTES;
      const coming = compress(plain, { params, pledgedSrcSize: plain.length, chunkSize: PIECE_BYTES });
      coming.catch(() => {}); // the failure is thrown when its turn comes
      await file.queue(plain.length, async () => {
        await file.append(await coming);
        if (!last) spare.push(plain);
      });
    }
    return { bytes: await file.finish() };
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    await file.close();
  }
}

/** Most archives are small, so the first buffer is smaller than a frame. */
const FIRST_BYTES = 256 * 1024;

/** The content of the next frame, shorter at the end, in `into` or, where that is too small, in a larger one. */
async function frameOf(reader: { some(most: number): Promise<Buffer> }, into: Buffer): Promise<Buffer> {
  let bytes = into;
  let used = 0;
  while (used < FRAME_BYTES) {
    const piece = await reader.some(FRAME_BYTES - used);
    if (piece.length === 0) break;
    if (used + piece.length > bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(FRAME_BYTES, Math.max(bytes.length * 8, used + piece.length)));
      bytes.copy(larger, 0, 0, used);
      bytes = larger;
    }
    bytes.set(piece, used);
    used += piece.length;
  }
  return bytes.subarray(0, used);
}

interface Frame {
  readonly from: number;
  readonly to: number;
  /** `null`: the frame does not say. */
  readonly size: number | null;
}

/** What is in a file of Zstandard frames, whoever wrote it. @throws {ScriptFailure} it is damaged or cut */
export async function* zstdContents(file: FileHandle): AsyncGenerator<Uint8Array> {
  const frames = framesOf(file);
  const ahead: { readonly frame: Frame; readonly content: Promise<Uint8Array | undefined> }[] = [];
  const fill = async (): Promise<void> => {
    while (ahead.length < AHEAD) {
      const { done, value: frame } = await frames.next();
      if (done === true) return;
      const small = frame.size !== null && frame.size <= FRAME_BYTES && frame.to - frame.from <= 2 * FRAME_BYTES;
      const content = small ? contentOf(file, frame, frame.size ?? 0) : Promise.resolve(undefined);
      content.catch(() => {}); // the failure is thrown when its turn comes
      ahead.push({ frame, content });
    }
  };
  let last: Frame | undefined;
  try {
    for (await fill(); ; await fill()) {
      const next = ahead.shift();
      if (next === undefined) break;
      last = next.frame;
      const content = await next.content;
      if (content !== undefined) yield content;
      else {
        const { from, to } = next.frame;
        const through = createZstdDecompress({ chunkSize: PIECE_BYTES });
        yield* decompressed(piecesOf(file, from, to - from), through, unreadable);
      }
    }
    if (last?.size === FRAME_BYTES) throw damaged("it ends too early");
  } finally {
    await Promise.allSettled(ahead.map(({ content }) => content));
  }
}

async function contentOf(file: FileHandle, { from, to }: Frame, size: number): Promise<Uint8Array> {
  const bytes = await readAt(file, from, to - from);
  if (size === 0) return new Uint8Array(0);
  const content = await decompress(bytes, { maxOutputLength: size, chunkSize: Math.max(64, size) }).catch(
    (error: unknown) => {
      throw unreadable(error);
    },
  );
  if (content.length !== size) throw damaged("a part of it is not as long as it says");
  return content;
}

function unreadable(error: unknown): ScriptFailure {
  return damaged(`it cannot be decompressed (${describeError(error)})`);
}

/** Finds the frames by their headers and those of their blocks; skippable frames are skipped. */
async function* framesOf(file: FileHandle): AsyncGenerator<Frame, undefined> {
  const { size: end } = await file.stat();
  const heads = headsOf(file, end);
  for (let at = 0; at < end; ) {
    const from = at;
    const magic = (await heads(at, 4)).readUInt32LE(0);
    if (magic >>> 4 === 0x184d2a5) {
      at += 8 + (await heads(at + 4, 4)).readUInt32LE(0);
      continue;
    }
    if (magic !== MAGIC) throw damaged("a part of it does not begin where it should");
    const [flags = 0] = await heads(at + 4, 1);
    const single = (flags & 0x20) !== 0;
    const sizeBytes = [single ? 1 : 0, 2, 4, 8][flags >> 6] ?? 0;
    at += 5 + (single ? 0 : 1) + ([0, 1, 2, 4][flags & 3] ?? 0);
    const size = sizeBytes === 0 ? null : readSize(await heads(at, sizeBytes));
    at += sizeBytes;
    for (let last = false; !last; ) {
      const block = (await heads(at, 3)).readUIntLE(0, 3);
      last = (block & 1) !== 0;
      at += 3 + (((block >> 1) & 3) === 1 ? 1 : block >> 3);
    }
    at += (flags & 4) === 0 ? 0 : 4;
    if (at > end) throw damaged("it ends too early");
    yield { from, to: at, size };
  }
  return undefined;
}

function readSize(bytes: Buffer): number {
  if (bytes.length === 8) return Number(bytes.readBigUInt64LE(0));
  return bytes.readUIntLE(0, bytes.length) + (bytes.length === 2 ? 256 : 0);
}

/** Reads short headers, going forward, from a buffer: blocks are often small, and a call for each would be slow. */
function headsOf(file: FileHandle, end: number): (at: number, length: number) => Promise<Buffer> {
  let piece: Buffer = Buffer.alloc(0);
  let start = 0;
  return async (at, length) => {
    if (at + length > end) throw damaged("it ends too early");
    if (at < start || at + length > start + piece.length) {
      start = at;
      piece = await readAt(file, at, Math.min(HEADS_BYTES, end - at));
    }
    return piece.subarray(at - start, at - start + length);
  };
}

const HEADS_BYTES = 4096;
