import type { ScriptFailure } from "../errors.ts";
import { createTurns } from "../time.ts";
import { type FileName, fileNameText, withoutTrailingSlashes } from "../workspace.ts";
import { type ByteReader, createByteReader } from "./byte-reader.ts";
import {
  BLOCK,
  checkSum,
  damaged,
  decimal,
  field,
  isBlank,
  kindOf,
  longText,
  MOST_META_HEADERS,
  meta,
  nameOf,
  number,
  paxRecords,
  type TarKind,
  tarPadding,
} from "./tar-fields.ts";

export { type TarKind, tarPadding };

/** Tar as this runner moves files between processes and archives: ustar, with pax where names or sizes need it. */

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

/** Longest path that systems take. */
export const LONGEST_PATH_BYTES = 4096;
const OCTAL_11 = 8 ** 11;
const OCTAL_7 = 8 ** 7;

/** The two empty blocks at the end of a tar. */
export const tarEnd: Buffer = Buffer.alloc(2 * BLOCK);

const TYPES: Readonly<Partial<Record<TarKind, string>>> = { file: "0", directory: "5", symlink: "2" };

/** Owner of an entry, in numbers. */
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
  const head = block({ name, type: TYPES[kind] ?? "0", size: size >= OCTAL_11 ? 0 : size, mode, mtime, target }, owner);
  if (records.length === 0) return head;
  const text = Buffer.from(records.join(""), "latin1");
  const pax = block({ name: "PaxHeader", type: "x", size: text.length, mode: 0o644, mtime, target: "" }, ROOT);
  return Buffer.concat([pax, text, Buffer.alloc(tarPadding(text.length)), head]);
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

interface Block {
  readonly name: string;
  readonly type: string;
  readonly size: number;
  readonly mode: number;
  readonly mtime: number;
  readonly target: string;
}

function block({ name, type, size, mode, mtime, target }: Block, { uid, gid }: TarOwner): Buffer {
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
  // The loop counts by index: an iterator over the bytes took half of the time of packing many small files.
  for (let i = 0; i < BLOCK; i++) sum += bytes[i] ?? 0;
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
  // What is there already comes without a turn of the event loop, and whoever reads would hear of no stop.
  const turn = createTurns();
  let pax: Readonly<Record<string, string>> = {};
  let globals: Readonly<Record<string, string>> = {};
  let longName: string | undefined;
  let longTarget: string | undefined;
  let metaHeaders = 0;
  for (;;) {
    const head = reader.now(BLOCK) ?? (await reader.take(BLOCK));
    if (head.length < BLOCK || head[0] === 0) {
      if (head.length === BLOCK && isBlank(head)) {
        if (joined) continue;
        break;
      }
      // Some writers leave out the end of a tar; an entry that is cut is noticed where its body is read.
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
    // In the header of a link the size says nothing about the bytes that follow.
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
    const now = (length: number): Buffer | undefined => {
      const bytes = reader.now(Math.min(length, left));
      left -= bytes?.length ?? 0;
      return bytes;
    };
    yield {
      name,
      kind,
      size: kind === "file" ? contentSize : 0,
      mode: number(head, 100, 8) & 0o7777,
      mtimeSeconds,
      target: kind === "symlink" || kind === "hard link" ? target : nameOf(""),
      body: { some, take, now },
    };
    while (left > 0) {
      await some(left);
      await turn();
    }
    const padding = tarPadding(contentSize);
    const filler = reader.now(padding) ?? (await reader.take(padding));
    if (filler.length < padding) throw cut();
  }
  // The rest after the end is read, so that the writer can end.
  while ((await reader.some(1024 * 1024)).length > 0) await turn();
}
