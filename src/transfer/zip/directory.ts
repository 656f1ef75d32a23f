import type { FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { ScriptFailure } from "../../errors.ts";
import type { TarKind } from "../../files/tar.ts";
import { LONGEST_PATH_BYTES } from "../../files/tar.ts";
import { createTurns } from "../../time.ts";
import { type FileName, fileName, fileNameText, withoutTrailingSlashes } from "../../workspace.ts";
import { fromCp437 } from "./cp437.ts";

/** What a zip file says of one of its entries. */
export interface ZipItem {
  readonly name: FileName;
  readonly kind: Extract<TarKind, "file" | "directory" | "symlink">;
  readonly mode: number;
  readonly mtimeSeconds: number;
  readonly size: number;
  readonly compressedSize: number;
  readonly crc: number;
  /** 0 stored, 8 deflated, 93 Zstandard. */
  readonly method: number;
  /** Place of its local header in the file. */
  readonly offset: number;
  /** Bytes of the name as it is stored. */
  readonly nameBytes: number;
}

/** Most bytes of the list of entries: names, comments and other fields. */
export const LARGEST_DIRECTORY_BYTES = 128 * 1024 * 1024;
/** The list is read in pieces of this size; an entry in it has at most three times 64 KiB. */
const PIECE_BYTES = 1024 * 1024;
const LARGEST_ITEM_BYTES = 46 + 3 * 65_535;

export function damaged(why: string): ScriptFailure {
  return new ScriptFailure(`the archive is damaged: ${why}`);
}

/** Exactly these bytes of the file. @throws {ScriptFailure} it ends before */
export async function readAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(length); // it has a buffer of its own, which can be handed to a thread
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, length - done, at + done);
    if (bytesRead === 0) throw damaged("it ends too early");
    done += bytesRead;
  }
  return bytes;
}

/** The list of a zip file's entries, checked; what it holds is read again each time, so that none of it stays in memory. */
export interface ZipDirectory {
  readonly count: number;
  /** What the files have when they are unpacked. */
  readonly bytes: number;
  items(): AsyncGenerator<ZipItem>;
}

/**
 * What lies where: nothing overlapping, nothing encrypted.
 * @throws {ScriptFailure} it is no zip file, damaged, or of a kind that cannot be read
 */
export async function readDirectory(file: FileHandle, mostEntries: number): Promise<ZipDirectory> {
  const { size } = await file.stat();
  const found = await findDirectory(file, size);
  if (found.count > mostEntries) throw new ScriptFailure(`the archive has more than ${mostEntries} entries`);
  if (found.length > LARGEST_DIRECTORY_BYTES) {
    throw new ScriptFailure(`the list of the archive's entries has more than ${LARGEST_DIRECTORY_BYTES} bytes`);
  }
  const starts: number[] = [];
  const ends: number[] = [];
  let bytes = 0;
  let inOrder = true;
  for await (const item of itemsOf(file, found)) {
    if (starts.length >= mostEntries) throw new ScriptFailure(`the archive has more than ${mostEntries} entries`);
    const last = ends.at(-1) ?? 0;
    inOrder &&= item.offset >= last;
    starts.push(item.offset);
    ends.push(endOf(item));
    bytes += item.size;
  }
  // Without zip64 some writers count modulo 65536.
  if (starts.length !== found.count && starts.length % 65536 !== found.count) throw damaged("its directory is cut");
  if (!inOrder || (ends.at(-1) ?? 0) > found.offset) {
    const bad = overlapping(starts, ends, found.offset);
    if (bad !== undefined) {
      for await (const item of itemsOf(file, found)) {
        if (endOf(item) === bad) throw damaged(`${fileNameText(item.name)} overlaps what follows`);
      }
    }
  }
  return { count: starts.length, bytes, items: () => itemsOf(file, found) };
}

function endOf({ offset, nameBytes, compressedSize }: ZipItem): number {
  return offset + 30 + nameBytes + compressedSize;
}

/** Stretches are apart if, sorted each by itself, no end lies beyond the start after it. @returns an end that does */
function overlapping(starts: readonly number[], ends: readonly number[], limit: number): number | undefined {
  const sorted = Float64Array.from(starts).sort();
  return Float64Array.from(ends)
    .sort()
    .find((end, index) => end > (sorted[index + 1] ?? limit));
}

async function* itemsOf(
  file: FileHandle,
  { offset, length, shift }: { readonly offset: number; readonly length: number; readonly shift: number },
): AsyncGenerator<ZipItem> {
  const turn = createTurns();
  let piece = Buffer.alloc(0);
  let at = 0;
  for (let read = 0; at < piece.length || read < length; ) {
    if (piece.length - at < LARGEST_ITEM_BYTES && read < length) {
      const more = await readAt(file, offset + read, Math.min(PIECE_BYTES, length - read));
      read += more.length;
      piece = Buffer.concat([piece.subarray(at), more]);
      at = 0;
    }
    const { item, next } = parseItem(piece, at, shift);
    at = next;
    yield item;
    await turn();
  }
}

async function findDirectory(
  file: FileHandle,
  size: number,
): Promise<{ offset: number; length: number; count: number; shift: number }> {
  const from = Math.max(0, size - 65_557);
  const tail = await readAt(file, from, size - from);
  let at = tail.length - 22;
  while (at >= 0 && !(tail.readUInt32LE(at) === 0x06054b50 && at + 22 + tail.readUInt16LE(at + 20) <= tail.length))
    at--;
  if (at < 0) throw damaged("it is no zip file, or it is cut");
  let count = tail.readUInt16LE(at + 10);
  let length = tail.readUInt32LE(at + 12);
  let offset = tail.readUInt32LE(at + 16);
  if (tail.readUInt16LE(at + 4) !== 0 && tail.readUInt16LE(at + 4) !== 0xffff)
    throw damaged("it is one of several parts");
  let end = from + at;
  if (count === 0xffff || length === 0xffffffff || offset === 0xffffffff) {
    const locator = end >= 20 ? await readAt(file, end - 20, 20) : Buffer.alloc(20);
    if (locator.readUInt32LE(0) === 0x07064b50) {
      end = toNumber(locator.readBigUInt64LE(8));
      const end64 = await readAt(file, Math.min(end, size), 56);
      if (end64.readUInt32LE(0) !== 0x06064b50) throw damaged("its end is not where it should be");
      count = toNumber(end64.readBigUInt64LE(32));
      length = toNumber(end64.readBigUInt64LE(40));
      offset = toNumber(end64.readBigUInt64LE(48));
    }
  }
  // Something may precede the archive, such as a program that unpacks it.
  const shift = end - length - offset;
  if (shift < 0) throw damaged("its directory is not where it should be");
  return { offset: offset + shift, length, count, shift };
}

function toNumber(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged("a number is too large");
  return Number(value);
}

function parseItem(bytes: Buffer, at: number, shift: number): { item: ZipItem; next: number } {
  if (at + 46 > bytes.length || bytes.readUInt32LE(at) !== 0x02014b50) throw damaged("its directory is cut");
  const host = bytes.readUInt16LE(at + 4) >> 8;
  const flags = bytes.readUInt16LE(at + 8);
  const method = bytes.readUInt16LE(at + 10);
  const [nameBytes, extraBytes] = [bytes.readUInt16LE(at + 28), bytes.readUInt16LE(at + 30)];
  const commentBytes = bytes.readUInt16LE(at + 32);
  const next = at + 46 + nameBytes + extraBytes + commentBytes;
  if (next > bytes.length) throw damaged("its directory is cut");
  const rawName = bytes.subarray(at + 46, at + 46 + nameBytes);
  const extras = readExtras(bytes.subarray(at + 46 + nameBytes, at + 46 + nameBytes + extraBytes));

  let size = bytes.readUInt32LE(at + 24);
  let compressedSize = bytes.readUInt32LE(at + 20);
  let offset = bytes.readUInt32LE(at + 42);
  const zip64 = extras.get(1);
  let used = 0;
  const wide = (): number => {
    if (zip64 === undefined || used + 8 > zip64.length) throw damaged("a size is missing");
    used += 8;
    return toNumber(zip64.readBigUInt64LE(used - 8));
  };
  if (size === 0xffffffff) size = wide();
  if (compressedSize === 0xffffffff) compressedSize = wide();
  if (offset === 0xffffffff) offset = wide();

  const name = nameOf(rawName, host, flags, extras.get(0x7075));
  const shown = fileNameText(name);
  if ((flags & 0x2041) !== 0) throw new ScriptFailure(`the archive is refused: ${shown} is encrypted`);
  if (method !== 0 && method !== 8 && method !== 93) {
    throw new ScriptFailure(
      `the archive is refused: ${shown} is compressed in a way that is not known (method ${method})`,
    );
  }
  const attributes = bytes.readUInt32LE(at + 38);
  const unixMode = host === 3 || host === 19 ? attributes >>> 16 : 0;
  const type = unixMode & 0o170000;
  const directory = name.endsWith("/") || type === 0o040000 || (host !== 3 && host !== 19 && (attributes & 0x10) !== 0);
  if (type !== 0 && type !== 0o100000 && type !== 0o040000 && type !== 0o120000) {
    throw new ScriptFailure(`the archive is refused: ${shown} is a device, a pipe or a socket`);
  }
  const kind = directory ? "directory" : type === 0o120000 ? "symlink" : "file";
  if (kind === "symlink" && size > LONGEST_PATH_BYTES) throw damaged(`${shown} is too long for a link`);
  const stripped = name.length > 1 ? withoutTrailingSlashes(name) : name;
  return {
    item: {
      name: fileName(stripped === "" ? "/" : stripped),
      kind,
      mode: unixMode & 0o7777 || (directory ? 0o755 : 0o644),
      mtimeSeconds: timeOf(extras.get(0x5455)) ?? dosSeconds(bytes.readUInt16LE(at + 14), bytes.readUInt16LE(at + 12)),
      size,
      compressedSize,
      crc: bytes.readUInt32LE(at + 16),
      method,
      offset: offset + shift,
      nameBytes,
    },
    next,
  };
}

function readExtras(bytes: Buffer): ReadonlyMap<number, Buffer> {
  const extras = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const end = at + 4 + bytes.readUInt16LE(at + 2);
    if (end > bytes.length) break; // some writers pad the end
    extras.set(bytes.readUInt16LE(at), bytes.subarray(at + 4, end));
    at = end;
  }
  return extras;
}

/** UTF-8 or raw bytes as they stand; names of DOS and Windows have their own letters and, from some writers, backslashes. */
function nameOf(raw: Buffer, host: number, flags: number, unicode: Buffer | undefined): FileName {
  if (raw.includes(0)) throw damaged("a name holds a NUL byte");
  let bytes = raw;
  if (unicode !== undefined && unicode.length > 5 && unicode[0] === 1 && unicode.readUInt32LE(1) === crc32(raw)) {
    bytes = unicode.subarray(5);
    if (bytes.includes(0)) throw damaged("a name holds a NUL byte");
  } else if (host === 0 && (flags & 0x0800) === 0 && raw.toString().includes("\ufffd")) {
    bytes = Buffer.from(fromCp437(raw));
  }
  const text = bytes.toString("latin1");
  const windows = host === 0 || host === 10 || host === 11 || host === 14;
  return fileName(windows && !text.includes("/") ? text.replaceAll("\\", "/") : text);
}

function timeOf(extra: Buffer | undefined): number | undefined {
  return extra !== undefined && extra.length >= 5 && ((extra[0] ?? 0) & 1) !== 0 ? extra.readUInt32LE(1) : undefined;
}

/** The time has no zone and is taken as UTC. */
function dosSeconds(date: number, time: number): number {
  const ms = Date.UTC(
    1980 + (date >> 9),
    ((date >> 5) & 15) - 1,
    date & 31,
    time >> 11,
    (time >> 5) & 63,
    (time & 31) * 2,
  );
  return Math.max(0, Math.floor(ms / 1000));
}
