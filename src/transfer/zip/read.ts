import type { FileHandle } from "node:fs/promises";
import { Readable, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { crc32, createInflateRaw, createZstdDecompress, inflateRaw, zstdDecompress } from "node:zlib";
import { ScriptFailure, SystemFailure } from "../../errors.ts";
import { tarEnd, tarHeader, tarPadding } from "../../files/tar.ts";
import { fileName, fileNameText, type UnpackLimits } from "../../workspace.ts";
import { damaged, readAt, readDirectory, type ZipItem } from "./directory.ts";

const inflate = promisify(inflateRaw);
const unzstd = promisify(zstdDecompress);

/** Entries that are read and inflated ahead of their turn, and up to which size. */
const AHEAD = 8;
const SMALL_BYTES = 1024 * 1024;
const PIECE_BYTES = 256 * 1024;

/**
 * The entries of a zip file as an uncompressed tar. Sizes and checksums are compared: a file of which a bit is wrong never
 * comes out whole. Names are passed on as they are: whoever unpacks the tar looks at them.
 * @param file is left open
 * @throws {ScriptFailure} on the stream, too: damage, encryption, unknown methods, more than `limits`
 */
export function zipToTar(
  file: FileHandle,
  limits: Pick<UnpackLimits, "bytes" | "entries">,
  signal: AbortSignal,
): Readable {
  return Readable.from(blocks(file, limits, signal), { objectMode: false, highWaterMark: SMALL_BYTES });
}

interface Ahead {
  readonly item: ZipItem;
  /** `undefined`: it is too large to be read ahead. */
  readonly content: Promise<Buffer | undefined>;
}

async function* blocks(
  file: FileHandle,
  limits: Pick<UnpackLimits, "bytes" | "entries">,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const ahead: Ahead[] = [];
  try {
    const directory = await readDirectory(file, limits.entries);
    if (directory.bytes > limits.bytes) {
      throw new ScriptFailure(`the archive is larger than ${limits.bytes} bytes when it is unpacked`);
    }
    const items = directory.items();
    const fill = async (): Promise<void> => {
      while (ahead.length < AHEAD) {
        const { done, value: item } = await items.next();
        if (done === true) return;
        const small = item.size <= SMALL_BYTES && item.compressedSize <= SMALL_BYTES;
        const content = small ? readSmall(file, item) : Promise.resolve(undefined);
        content.catch(() => {}); // its failure is thrown when its turn comes
        ahead.push({ item, content });
      }
    };
    for (await fill(); ; await fill()) {
      signal.throwIfAborted();
      const next = ahead.shift();
      if (next === undefined) break;
      const { item } = next;
      const content = await next.content;
      const target = item.kind === "symlink" ? (content ?? Buffer.alloc(0)).toString("latin1") : "";
      if (target.includes("\0")) throw damaged(`${fileNameText(item.name)} leads to a name with a NUL byte`);
      const size = item.kind === "file" ? item.size : 0;
      const { name, kind, mode, mtimeSeconds } = item;
      yield tarHeader({ name, kind, size, mode, mtimeSeconds, target: fileName(target) });
      if (size === 0) continue;
      if (content !== undefined) yield content;
      else yield* readLarge(file, item, signal);
      const padding = tarPadding(size);
      if (padding > 0) yield Buffer.alloc(padding);
    }
    yield tarEnd;
  } finally {
    await Promise.allSettled(ahead.map(({ content }) => content));
  }
}

/** Where the content begins. The local header must be that of the entry. */
async function contentAt(file: FileHandle, item: ZipItem): Promise<number> {
  const head = await readAt(file, item.offset, 30);
  if (head.readUInt32LE(0) !== 0x04034b50 || head.readUInt16LE(26) !== item.nameBytes) {
    throw damaged(`${fileNameText(item.name)} is not where its directory says`);
  }
  if (head.readUInt16LE(8) !== item.method) throw damaged(`${fileNameText(item.name)} contradicts the directory`);
  return item.offset + 30 + item.nameBytes + head.readUInt16LE(28);
}

function wrong(item: ZipItem, what: string): ScriptFailure {
  return damaged(`the ${what} of ${fileNameText(item.name)} is wrong`);
}

async function readSmall(file: FileHandle, item: ZipItem): Promise<Buffer> {
  const bytes = await readAt(file, await contentAt(file, item), item.compressedSize);
  const content = await expand(bytes, item).catch(() => {
    throw damaged(`${fileNameText(item.name)} cannot be decompressed`);
  });
  if (content.length !== item.size) throw wrong(item, "size");
  if (crc32(content) !== item.crc) throw wrong(item, "checksum");
  return content;
}

async function expand(bytes: Buffer, { method, size }: ZipItem): Promise<Buffer> {
  if (method === 0) return bytes;
  const options = { maxOutputLength: Math.max(size, 1) };
  return method === 8 ? await inflate(bytes, options) : await unzstd(bytes, options);
}

async function* readLarge(file: FileHandle, item: ZipItem, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const stored = piecesOf(file, await contentAt(file, item), item.compressedSize);
  const source = item.method === 0 ? stored : decompressed(stored, item);
  let [size, crc] = [0, 0];
  for await (const piece of source) {
    signal.throwIfAborted();
    size += piece.length;
    if (size > item.size) throw wrong(item, "size");
    crc = crc32(piece, crc);
    yield piece;
  }
  if (size !== item.size) throw wrong(item, "size");
  if (crc !== item.crc) throw wrong(item, "checksum");
}

async function* piecesOf(file: FileHandle, from: number, length: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < length; at += PIECE_BYTES)
    yield await readAt(file, from + at, Math.min(PIECE_BYTES, length - at));
}

async function* decompressed(source: AsyncIterable<Buffer>, item: ZipItem): AsyncGenerator<Uint8Array> {
  const chunkSize = PIECE_BYTES;
  const through: Transform = item.method === 8 ? createInflateRaw({ chunkSize }) : createZstdDecompress({ chunkSize });
  const running = pipeline(Readable.from(source, { objectMode: false }), through);
  running.catch(() => {}); // the reader hears of it
  try {
    for await (const piece of through) yield piece;
    await running;
  } catch (error) {
    if (error instanceof ScriptFailure || error instanceof SystemFailure) throw error;
    throw damaged(`${fileNameText(item.name)} cannot be decompressed`);
  } finally {
    through.destroy();
    await running.catch(() => {});
  }
}
