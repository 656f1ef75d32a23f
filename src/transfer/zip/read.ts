import type { FileHandle } from "node:fs/promises";
import { Readable } from "node:stream";
import { crc32, createInflateRaw, createZstdDecompress } from "node:zlib";
import { ScriptFailure } from "../../errors.ts";
import { tarEnd, tarHeader, tarPadding } from "../../files/tar.ts";
import { tidyAfter } from "../../files/tidy.ts";
import { fileName, fileNameText, type UnpackLimits } from "../../workspace.ts";
import { DEFLATED, faults, STORED } from "./batch.ts";
import { damaged, readAt, readDirectory, type ZipItem } from "./directory.ts";
import { decompressed, PIECE_BYTES, piecesOf } from "./pieces.ts";
import { inThread } from "./threads.ts";

/** How many stretches of small entries are read and inflated ahead of their turn. */
const AHEAD = 3;
/** Of a stretch: bytes in the file, and bytes of the contents. An entry that is larger by itself is read by itself. */
const STRETCH_BYTES = 512 * 1024;
const CONTENT_BYTES = 1024 * 1024;
const MOST_IN_STRETCH = 1024;

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
  return Readable.from(blocks(file, limits, signal), { objectMode: false, highWaterMark: CONTENT_BYTES });
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
    const stretches = stretchesOf(directory.items());
    const fill = async (): Promise<void> => {
      while (ahead.length < AHEAD) {
        const { done, value: items } = await stretches.next();
        if (done === true) return;
        const [first] = items;
        if (first === undefined) continue;
        const content = isSmall(first) ? readStretch(file, items) : Promise.resolve(undefined);
        content.catch(() => {}); // the failure is thrown when its turn comes
        ahead.push({ items, content });
      }
    };
    for (await fill(); ; await fill()) {
      signal.throwIfAborted();
      const next = ahead.shift();
      if (next === undefined) break;
      const contents = await next.content;
      if (contents !== undefined) {
        tidyAfter(contents.length);
        yield tarOf(next.items, contents);
        continue;
      }
      for (const item of next.items) {
        if (item.kind === "symlink") throw damaged(`${fileNameText(item.name)} is too long for a link`);
        yield headerOf(item, "");
        if (item.kind === "directory") continue;
        yield* readLarge(file, item, signal);
        yield Buffer.alloc(tarPadding(item.size));
      }
    }
    yield tarEnd;
  } finally {
    await Promise.allSettled(ahead.map(({ content }) => content));
  }
}

interface Ahead {
  /** Small ones that follow one another in the file, or a large one. */
  readonly items: readonly ZipItem[];
  /** The contents of the small entries, one after the other; `undefined`: the entry is too large to be read ahead. */
  readonly content: Promise<Uint8Array | undefined>;
}

function isSmall({ size, compressedSize }: ZipItem): boolean {
  return size <= CONTENT_BYTES && compressedSize <= STRETCH_BYTES;
}

/** Groups small entries: to read each of ten thousand by itself takes longer than to inflate it. */
async function* stretchesOf(items: AsyncGenerator<ZipItem>): AsyncGenerator<readonly ZipItem[], undefined> {
  let stretch: ZipItem[] = [];
  let [from, end, size] = [0, 0, 0];
  for await (const item of items) {
    const follows =
      item.offset >= end &&
      item.offset + item.compressedSize - from <= STRETCH_BYTES &&
      size + item.size <= CONTENT_BYTES &&
      stretch.length < MOST_IN_STRETCH;
    if (stretch.length > 0 && !(follows && isSmall(item))) {
      yield stretch;
      stretch = [];
    }
    if (!isSmall(item)) {
      yield [item];
      continue;
    }
    if (stretch.length === 0) [from, size] = [item.offset, 0];
    stretch.push(item);
    end = item.offset + item.compressedSize;
    size += item.size;
  }
  if (stretch.length > 0) yield stretch;
  return undefined;
}

/** Bytes of a local header before its name. */
const HEAD_BYTES = 30;
/** Where it begins, as a local header says: it must be that of the entry. */
function contentStart(head: Buffer, item: ZipItem): number {
  if (head.readUInt32LE(0) !== 0x04034b50 || head.readUInt16LE(26) !== item.nameBytes) {
    throw damaged(`${fileNameText(item.name)} is not where its directory says`);
  }
  if (head.readUInt16LE(8) !== item.method) throw damaged(`${fileNameText(item.name)} contradicts the directory`);
  return HEAD_BYTES + item.nameBytes + head.readUInt16LE(28);
}

function wrong(item: ZipItem, what: string): ScriptFailure {
  return damaged(`the ${what} of ${fileNameText(item.name)} is wrong`);
}

/** The contents of small entries, one after the other. */
async function readStretch(file: FileHandle, items: readonly ZipItem[]): Promise<Uint8Array> {
  const [first, last] = [items[0], items.at(-1)];
  if (first === undefined || last === undefined) return new Uint8Array(0);
  const from = first.offset;
  // The end of the last entry follows from its local header, so that one is read first.
  const lastStart = last.offset - from + contentStart(await readAt(file, last.offset, HEAD_BYTES), last);
  const bytes = await readAt(file, from, lastStart + last.compressedSize);
  const numbers: number[] = [];
  for (const item of items) {
    const at = item.offset - from;
    const start = at + contentStart(bytes.subarray(at, at + HEAD_BYTES), item);
    if (start + item.compressedSize > bytes.length) throw damaged(`${fileNameText(item.name)} overlaps what follows`);
    numbers.push(item.method, start, item.compressedSize, item.size, item.crc);
  }
  const work = { work: "inflate", level: "default", bytes, numbers: Uint32Array.from(numbers) } as const;
  const { bytes: contents, numbers: bad } = await inThread(work);
  const [index, fault] = bad;
  const item = index === undefined ? undefined : items[index];
  if (item === undefined) return contents;
  const what = faults[fault ?? 0];
  throw what === "size" || what === "checksum"
    ? wrong(item, what)
    : damaged(`${fileNameText(item.name)} cannot be decompressed`);
}

function headerOf({ name, kind, mode, mtimeSeconds, size }: ZipItem, target: string): Buffer {
  return tarHeader({ name, kind, size: kind === "file" ? size : 0, mode, mtimeSeconds, target: fileName(target) });
}

/** Small entries as a stretch of tar. */
function tarOf(items: readonly ZipItem[], contents: Uint8Array): Buffer {
  const pieces: Uint8Array[] = [];
  let at = 0;
  for (const item of items) {
    const content = contents.subarray(at, at + item.size);
    at += item.size;
    if (item.kind === "symlink") {
      const target = Buffer.from(content.buffer, content.byteOffset, content.length).toString("latin1");
      if (target.includes("\0")) throw damaged(`${fileNameText(item.name)} leads to a name with a NUL byte`);
      pieces.push(headerOf(item, target));
      continue;
    }
    pieces.push(headerOf(item, ""));
    if (item.kind === "file" && item.size > 0) pieces.push(content, PADDING.subarray(0, tarPadding(item.size)));
  }
  return Buffer.concat(pieces);
}

const PADDING = Buffer.alloc(512);

/** The content of one entry, whatever its size. */
export async function* readLarge(file: FileHandle, item: ZipItem, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const start = item.offset + contentStart(await readAt(file, item.offset, HEAD_BYTES), item);
  const stored = piecesOf(file, start, item.compressedSize);
  const source = item.method === STORED ? stored : plainOf(stored, item);
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

function plainOf(source: AsyncIterable<Buffer>, { method, name }: ZipItem): AsyncGenerator<Uint8Array> {
  const chunkSize = PIECE_BYTES;
  const through = method === DEFLATED ? createInflateRaw({ chunkSize }) : createZstdDecompress({ chunkSize });
  return decompressed(source, through, () => damaged(`${fileNameText(name)} cannot be decompressed`));
}
