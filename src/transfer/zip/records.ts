import type { TarEntry } from "../../files/tar.ts";
import { fileNameText } from "../../workspace.ts";

/** The records of a zip file, as this runner writes them: made on Unix, zip64 where 32 bits are not enough. */

export interface ZipEntry extends TarEntry {
  readonly method: "stored" | "deflated";
  readonly crc: number;
  readonly compressedSize: number;
  /** Place of its local header in the file. */
  readonly offset: number;
}

const U32 = 0xffffffff;
const U16 = 0xffff;
/** Unix, and the version that knows zip64. */
const MADE_BY = (3 << 8) | 45;
const KINDS: Readonly<Partial<Record<TarEntry["kind"], number>>> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
};
/** A file from this size on gets room for 64-bit sizes before they are known; what does not shrink may even grow. */
const LARGE_BYTES = 0xff000000;

function nameOf({ name, kind }: TarEntry): Buffer {
  return Buffer.from(kind === "directory" ? `${name}/` : name, "latin1");
}

/** Names in UTF-8 are marked as such; how other bytes are read is up to the reader. */
function flagsOf(name: Buffer): number {
  return name.some((byte) => byte > 127) && !name.toString().includes("\ufffd") ? 0x0800 : 0;
}

function dosTime(mtimeSeconds: number): { time: number; date: number } {
  const at = new Date(Math.min(Math.max(mtimeSeconds, 315_532_800), 4_354_819_198) * 1000); // 1980 … 2107
  return {
    time: (at.getUTCHours() << 11) | (at.getUTCMinutes() << 5) | (at.getUTCSeconds() >> 1),
    date: ((at.getUTCFullYear() - 1980) << 9) | ((at.getUTCMonth() + 1) << 5) | at.getUTCDate(),
  };
}

const TIME_EXTRA_BYTES = 9;

/** 0x5455: seconds since 1970. */
function timeExtra(mtimeSeconds: number): Buffer {
  const extra = Buffer.alloc(TIME_EXTRA_BYTES);
  extra.writeUInt16LE(0x5455, 0);
  extra.writeUInt16LE(5, 2);
  extra[4] = 1;
  extra.writeUInt32LE(Math.min(Math.max(mtimeSeconds, 0), U32), 5);
  return extra;
}

/** 0x0001: what does not fit into 32 bits. */
function zip64Extra(values: readonly number[]): Buffer {
  if (values.length === 0) return Buffer.alloc(0);
  const extra = Buffer.alloc(4 + 8 * values.length);
  extra.writeUInt16LE(1, 0);
  extra.writeUInt16LE(8 * values.length, 2);
  for (const [index, value] of values.entries()) extra.writeBigUInt64LE(BigInt(value), 4 + 8 * index);
  return extra;
}

/** What `localHeader` takes, whatever the sizes of the packed content turn out to be. */
export function localHeaderBytes({ name, kind, size }: TarEntry): number {
  return 30 + name.length + (kind === "directory" ? 1 : 0) + (size >= LARGE_BYTES ? 20 : 0) + TIME_EXTRA_BYTES;
}

/** Always of the same length for the same entry, whatever its sizes turn out to be. */
export function localHeader(entry: ZipEntry): Buffer {
  const name = nameOf(entry);
  const large = entry.size >= LARGE_BYTES;
  const extra = Buffer.concat([
    large ? zip64Extra([entry.size, entry.compressedSize]) : Buffer.alloc(0),
    timeExtra(entry.mtimeSeconds),
  ]);
  const head = Buffer.alloc(30);
  head.writeUInt32LE(0x04034b50, 0);
  head.writeUInt16LE(large ? 45 : 20, 4);
  writeCommon(head, 6, entry, name);
  head.writeUInt32LE(large ? U32 : entry.compressedSize, 18);
  head.writeUInt32LE(large ? U32 : entry.size, 22);
  head.writeUInt16LE(name.length, 26);
  head.writeUInt16LE(extra.length, 28);
  return Buffer.concat([head, name, extra]);
}

export function centralHeader(entry: ZipEntry): Buffer {
  const name = nameOf(entry);
  const { size, compressedSize, offset, mode, kind } = entry;
  const extra = Buffer.concat([
    zip64Extra([size, compressedSize, offset].filter((value) => value >= U32)),
    timeExtra(entry.mtimeSeconds),
  ]);
  const head = Buffer.alloc(46);
  head.writeUInt32LE(0x02014b50, 0);
  head.writeUInt16LE(MADE_BY, 4);
  head.writeUInt16LE([size, compressedSize, offset].some((value) => value >= U32) ? 45 : 20, 6);
  writeCommon(head, 8, entry, name);
  head.writeUInt32LE(Math.min(compressedSize, U32), 20);
  head.writeUInt32LE(Math.min(size, U32), 24);
  head.writeUInt16LE(name.length, 28);
  head.writeUInt16LE(extra.length, 30);
  head.writeUInt32LE((((KINDS[kind] ?? 0) | (mode & 0o7777)) * 65536 + (kind === "directory" ? 0x10 : 0)) >>> 0, 38);
  head.writeUInt32LE(Math.min(offset, U32), 42);
  return Buffer.concat([head, name, extra]);
}

/** Flags, method, time, date and CRC, which both headers have in this order. */
function writeCommon(head: Buffer, at: number, entry: ZipEntry, name: Buffer): void {
  const { time, date } = dosTime(entry.mtimeSeconds);
  if (name.length > U16) throw new RangeError(`${fileNameText(entry.name)} is too long a name for a zip file`);
  head.writeUInt16LE(flagsOf(name), at);
  head.writeUInt16LE(entry.method === "deflated" ? 8 : 0, at + 2);
  head.writeUInt16LE(time, at + 4);
  head.writeUInt16LE(date, at + 6);
  head.writeUInt32LE(entry.crc, at + 8);
}

/** What comes after the last central header. */
export function zipEnd(entries: number, centralSize: number, centralOffset: number): Buffer {
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(Math.min(entries, U16), 8);
  end.writeUInt16LE(Math.min(entries, U16), 10);
  end.writeUInt32LE(Math.min(centralSize, U32), 12);
  end.writeUInt32LE(Math.min(centralOffset, U32), 16);
  if (entries < U16 && centralSize < U32 && centralOffset < U32) return end;
  const end64 = Buffer.alloc(56 + 20);
  end64.writeUInt32LE(0x06064b50, 0);
  end64.writeBigUInt64LE(44n, 4);
  end64.writeUInt16LE(MADE_BY, 12);
  end64.writeUInt16LE(45, 14);
  end64.writeBigUInt64LE(BigInt(entries), 24);
  end64.writeBigUInt64LE(BigInt(entries), 32);
  end64.writeBigUInt64LE(BigInt(centralSize), 40);
  end64.writeBigUInt64LE(BigInt(centralOffset), 48);
  end64.writeUInt32LE(0x07064b50, 56);
  end64.writeBigUInt64LE(BigInt(centralOffset + centralSize), 64);
  end64.writeUInt32LE(1, 72);
  return Buffer.concat([end64, end]);
}
