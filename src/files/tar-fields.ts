import { ScriptFailure } from "../errors.ts";
import { type FileName, fileName } from "../workspace.ts";
import type { ByteReader } from "./byte-reader.ts";

/** What stands in the headers of a tar: numbers, names and records, read with a limit for each. */

export type TarKind = "file" | "directory" | "symlink" | "hard link" | "device" | "other";

export const BLOCK = 512;
/** Most bytes of a header that describes the next entry, or all entries after it: pax, or GNU's long names. */
export const LONGEST_META_BYTES = 1024 * 1024;
/** Most such headers before one entry: one of each kind, and some repetitions. */
export const MOST_META_HEADERS = 16;
export const MOST_PAX_RECORDS = 1000;
/** Most bytes of a path that are kept, so that the error about a path that is too long can name it. */
const LONGEST_TEXT_BYTES = 65_536;

/** Bytes that follow `size` bytes of content up to the next block. */
export function tarPadding(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

export function kindOf(type: string, name: string): TarKind {
  switch (type) {
    case "0":
    case "\0":
    case "7":
      return name.endsWith("/") ? "directory" : "file";
    case "5":
      return "directory";
    case "2":
      return "symlink";
    case "1":
      return "hard link";
    case "3":
    case "4":
    case "6":
      return "device";
    default:
      return "other";
  }
}

export function damaged(why: string): ScriptFailure {
  return new ScriptFailure(`the archive is damaged: ${why}`);
}

export function nameOf(text: string): FileName {
  try {
    return fileName(text);
  } catch {
    throw damaged("a name holds a NUL byte");
  }
}

export function isBlank(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

function untilNul(text: string): string {
  const end = text.indexOf("\0");
  return end === -1 ? text : text.slice(0, end);
}

export function field(head: Buffer, at: number, length: number): string {
  return untilNul(head.toString("latin1", at, at + length));
}

/** Octal, or in GNU's base 256 where the first bit is set. */
export function number(head: Buffer, at: number, length: number): number {
  if (((head[at] ?? 0) & 0x80) !== 0) {
    let value = (head[at] ?? 0) & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + (head[at + i] ?? 0);
    if (!Number.isSafeInteger(value)) throw damaged("a number is too large");
    return value;
  }
  const text = field(head, at, length).trim();
  if (!/^[0-7]*$/.test(text)) throw damaged("a number in a header is none");
  return text === "" ? 0 : Number.parseInt(text, 8);
}

export function decimal(text: string, what: string): number {
  if (!/^\d{1,16}$/.test(text)) throw damaged(`its ${what} is no number`);
  return Number(text);
}

export function checkSum(head: Buffer): void {
  let sum = 8 * 32;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += head[i] ?? 0;
  if (number(head, 148, 8) !== sum) throw damaged("the checksum of a header is wrong");
}

export async function meta(reader: ByteReader, size: number): Promise<Buffer> {
  if (size > LONGEST_META_BYTES) throw damaged(`a header is longer than ${LONGEST_META_BYTES} bytes`);
  const bytes = await reader.take(size);
  const padding = tarPadding(size);
  if (bytes.length < size || (await reader.take(padding)).length < padding) throw damaged("it ends in a header");
  return bytes;
}

export function longText(bytes: Buffer): string {
  const nul = bytes.indexOf(0);
  return pathText(bytes, 0, nul === -1 ? bytes.length : nul);
}

/** Copied, because a part of a longer text would keep all of that text in memory. */
function pathText(bytes: Buffer, from: number, to: number): string {
  if (to - from > LONGEST_TEXT_BYTES) throw damaged(`a path is longer than ${LONGEST_TEXT_BYTES} bytes`);
  return bytes.toString("latin1", from, to);
}

/** The keys that are used here; a header may have any others. */
const PAX_KEYS: ReadonlySet<string> = new Set(["path", "linkpath", "size", "mtime"]);
const LONGEST_PAX_KEY = 8;

export function paxRecords(bytes: Buffer): Record<string, string> {
  const records: Record<string, string> = {};
  let count = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = Number.parseInt(/^\d{1,8} /.exec(bytes.toString("latin1", at, at + 9))?.[0] ?? "", 10);
    if (!(length > 0) || at + length > bytes.length || bytes[at + length - 1] !== 0x0a)
      throw damaged("a pax header is none");
    if (++count > MOST_PAX_RECORDS) throw damaged(`a header has more than ${MOST_PAX_RECORDS} records`);
    const key = bytes.indexOf(0x20, at) + 1;
    const equals = bytes.indexOf(0x3d, key);
    const end = at + length - 1;
    if (equals > key && equals < end && equals - key <= LONGEST_PAX_KEY) {
      const name = bytes.toString("latin1", key, equals);
      if (PAX_KEYS.has(name)) records[name] = pathText(bytes, equals + 1, end);
    }
    at += length;
  }
  return records;
}
