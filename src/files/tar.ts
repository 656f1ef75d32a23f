import { ScriptFailure } from "../errors.ts";
import { type FileName, fileName, fileNameText, withoutTrailingSlashes } from "../workspace.ts";
import { type ByteReader, createByteReader } from "./byte-reader.ts";

/** Tar as this runner moves files between processes and archives: ustar, with pax where names or sizes need it. */

export type TarKind = "file" | "directory" | "symlink" | "hard link" | "device" | "other";

export interface TarEntry {
  /** Relative or not, as it stands in the archive, without a trailing slash. */
  readonly name: FileName;
  readonly kind: TarKind;
  /** Bytes of content; 0 but for files. */
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  /** Whole seconds since 1970. */
  readonly mtimeSeconds: number;
  /** Where a link leads; else empty. */
  readonly target: FileName;
}

/** An entry that is being read: `body` is over when the next one is asked for. */
export interface TarItem extends TarEntry {
  readonly body: ByteReader;
}

const BLOCK = 512;
/** Of a header that says more of the next entry, or of all that follow: pax, or GNU's long names. */
export const LONGEST_META_BYTES = 1024 * 1024;
/** Such headers before one entry: of a kind each, and some more that say the same again. */
export const MOST_META_HEADERS = 16;
export const MOST_PAX_RECORDS = 1000;
/** What systems take as a path. */
export const LONGEST_PATH_BYTES = 4096;
/** What is read of a path at all, so that whoever unpacks can say which one it is that is too long. */
const LONGEST_TEXT_BYTES = 65_536;
const OCTAL_11 = 8 ** 11;
const OCTAL_7 = 8 ** 7;

/** Bytes that follow `size` bytes of content up to the next block. */
export function tarPadding(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

/** What ends a tar. */
export const tarEnd: Buffer = Buffer.alloc(2 * BLOCK);

const TYPES: Readonly<Partial<Record<TarKind, string>>> = { file: "0", directory: "5", symlink: "2" };

/** Whose an entry is, in numbers. */
export interface TarOwner {
  readonly uid: number;
  readonly gid: number;
}

const ROOT: TarOwner = { uid: 0, gid: 0 };

/** The blocks that precede an entry's content. */
export function tarHeader(entry: TarEntry, owner: TarOwner = ROOT): Buffer {
  const { kind, size, mode, target } = entry;
  const mtime = Math.min(Math.max(Math.floor(entry.mtimeSeconds), 0), OCTAL_11 - 1);
  const name = kind === "directory" ? `${entry.name}/` : entry.name;
  const records: string[] = [];
  if (name.length > 100) records.push(paxRecord("path", name));
  if (target.length > 100) records.push(paxRecord("linkpath", target));
  if (size >= OCTAL_11) records.push(paxRecord("size", String(size)));
  for (const part of ["uid", "gid"] as const)
    if (owner[part] >= OCTAL_7) records.push(paxRecord(part, String(owner[part])));
  const head = block(name, TYPES[kind] ?? "0", size >= OCTAL_11 ? 0 : size, mode, mtime, target, owner);
  if (records.length === 0) return head;
  const text = Buffer.from(records.join(""), "latin1");
  const pax = block("PaxHeader", "x", text.length, 0o644, mtime, "", ROOT);
  return Buffer.concat([pax, text, Buffer.alloc(tarPadding(text.length)), head]);
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

function block(
  name: string,
  type: string,
  size: number,
  mode: number,
  mtime: number,
  target: string,
  { uid, gid }: TarOwner,
): Buffer {
  const bytes = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, digits: number): void => {
    bytes.write(value.toString(8).padStart(digits, "0"), at, "latin1");
  };
  bytes.write(name.slice(0, 100), 0, "latin1");
  octal(mode & 0o7777, 100, 7);
  octal(uid >= OCTAL_7 ? 0 : uid, 108, 7);
  octal(gid >= OCTAL_7 ? 0 : gid, 116, 7);
  octal(size, 124, 11);
  octal(mtime, 136, 11);
  bytes.fill(" ", 148, 156);
  bytes.write(type, 156, "latin1");
  bytes.write(target.slice(0, 100), 157, "latin1");
  bytes.write("ustar\u000000", 257, "latin1");
  let sum = 0;
  for (const byte of bytes) sum += byte;
  octal(sum, 148, 6);
  bytes[154] = 0;
  return bytes;
}

/**
 * The entries of a tar, in order. What is left of an entry's body is skipped.
 * `joined`: several tars one after the other, each with its end, are read as one.
 * @throws {ScriptFailure} it is cut or damaged
 */
export async function* readTar(
  stream: AsyncIterable<unknown>,
  { joined = false }: { readonly joined?: boolean } = {},
): AsyncGenerator<TarItem> {
  const reader = createByteReader(stream);
  let pax: Readonly<Record<string, string>> = {};
  let globals: Readonly<Record<string, string>> = {};
  let longName: string | undefined;
  let longTarget: string | undefined;
  let metaHeaders = 0;
  for (;;) {
    const head = await reader.take(BLOCK);
    if (head.length < BLOCK || head[0] === 0) {
      if (head.length === BLOCK && isBlank(head)) {
        if (joined) continue;
        break;
      }
      // Some writers leave out what ends a tar; an entry that is cut is found where its body is read.
      if (head.length === 0 && longName === undefined) break;
      throw damaged(head.length === BLOCK ? "an entry has no name" : "it ends in the middle of a header");
    }
    checkSum(head);
    const type = String.fromCharCode(head[156] ?? 0);
    const size = "size" in pax && !"xgLK".includes(type) ? decimal(pax.size ?? "", "size") : number(head, 124, 12);
    if ("xgLK".includes(type)) {
      if (++metaHeaders > MOST_META_HEADERS) {
        throw damaged(`an entry has more than ${MOST_META_HEADERS} headers before it`);
      }
      const bytes = await meta(reader, size);
      if (type === "x") pax = paxRecords(bytes);
      else if (type === "g") globals = { ...globals, ...paxRecords(bytes) };
      else if (type === "L") longName = longText(bytes);
      else longTarget = longText(bytes);
      continue;
    }
    metaHeaders = 0;
    const prefix = head.toString("latin1", 257, 262) === "ustar" && head[262] === 0 ? field(head, 345, 155) : "";
    const shortName = field(head, 0, 100);
    const raw = pax.path ?? longName ?? globals.path ?? (prefix === "" ? shortName : `${prefix}/${shortName}`);
    const kind = kindOf(type, raw);
    const name = nameOf(withoutTrailingSlashes(raw) || raw.slice(0, 1));
    const target = nameOf(pax.linkpath ?? longTarget ?? field(head, 157, 100));
    const mtimeText = pax.mtime ?? globals.mtime;
    const mtimeSeconds = mtimeText === undefined ? number(head, 136, 12) : Math.floor(Number(mtimeText)) || 0;
    // Of links a size says nothing about what follows.
    const contentSize = kind === "symlink" || kind === "hard link" || kind === "device" ? 0 : size;
    [pax, longName, longTarget] = [{}, undefined, undefined];
    let left = contentSize;
    const cut = (): ScriptFailure => damaged(`it ends in the middle of ${fileNameText(name)}`);
    const some = async (most: number): Promise<Buffer> => {
      const piece = await reader.some(Math.min(most, left));
      if (piece.length === 0 && left > 0 && most > 0) throw cut();
      left -= piece.length;
      return piece;
    };
    const take = async (length: number): Promise<Buffer> => {
      const wanted = Math.min(length, left);
      const bytes = await reader.take(wanted);
      if (bytes.length < wanted) throw cut();
      left -= bytes.length;
      return bytes;
    };
    yield {
      name,
      kind,
      size: kind === "file" ? contentSize : 0,
      mode: number(head, 100, 8) & 0o7777,
      mtimeSeconds,
      target: kind === "symlink" || kind === "hard link" ? target : nameOf(""),
      body: { some, take },
    };
    while (left > 0) await some(left);
    const padding = tarPadding(contentSize);
    if (padding > 0 && (await reader.take(padding)).length < padding) throw cut();
  }
  // What comes after the end is read, so that whoever writes can end.
  while ((await reader.some(1024 * 1024)).length > 0);
}

function kindOf(type: string, name: string): TarKind {
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

function damaged(why: string): ScriptFailure {
  return new ScriptFailure(`the archive is damaged: ${why}`);
}

function nameOf(text: string): FileName {
  try {
    return fileName(text);
  } catch {
    throw damaged("a name holds a NUL byte");
  }
}

function isBlank(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

function untilNul(text: string): string {
  const end = text.indexOf("\0");
  return end === -1 ? text : text.slice(0, end);
}

function field(head: Buffer, at: number, length: number): string {
  return untilNul(head.toString("latin1", at, at + length));
}

/** Octal, or in GNU's base 256 where the first bit is set. */
function number(head: Buffer, at: number, length: number): number {
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

function decimal(text: string, what: string): number {
  if (!/^\d{1,16}$/.test(text)) throw damaged(`its ${what} is no number`);
  return Number(text);
}

function checkSum(head: Buffer): void {
  let sum = 8 * 32;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += head[i] ?? 0;
  if (number(head, 148, 8) !== sum) throw damaged("the checksum of a header is wrong");
}

async function meta(reader: ByteReader, size: number): Promise<Buffer> {
  if (size > LONGEST_META_BYTES) throw damaged(`a header is longer than ${LONGEST_META_BYTES} bytes`);
  const bytes = await reader.take(size);
  const padding = tarPadding(size);
  if (bytes.length < size || (await reader.take(padding)).length < padding) throw damaged("it ends in a header");
  return bytes;
}

function longText(bytes: Buffer): string {
  const nul = bytes.indexOf(0);
  return pathText(bytes, 0, nul === -1 ? bytes.length : nul);
}

/** A text of its own: a part of a longer one would keep all of that in memory. */
function pathText(bytes: Buffer, from: number, to: number): string {
  if (to - from > LONGEST_TEXT_BYTES) throw damaged(`a path is longer than ${LONGEST_TEXT_BYTES} bytes`);
  return bytes.toString("latin1", from, to);
}

/** What is used here; a header may say anything else. */
const PAX_KEYS: ReadonlySet<string> = new Set(["path", "linkpath", "size", "mtime"]);
const LONGEST_PAX_KEY = 8;

function paxRecords(bytes: Buffer): Record<string, string> {
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
