import { crc32 } from "node:zlib";
import { readTar, type TarItem } from "../../files/tar.ts";
import { type ArchiveFile, createArchiveFile } from "../archive-file.ts";
import type { CompressionLevel } from "../transfer.ts";
import { BLOCK_BYTES, deflateBlocks } from "./deflate.ts";
import { centralHeader, localHeader, type ZipEntry, zipEnd } from "./records.ts";

export interface PackOptions {
  readonly level: CompressionLevel;
  /** What the disk must still have free. */
  readonly minFreeBytes: number;
}

export interface Packed {
  /** Of the archive. */
  readonly bytes: number;
  readonly entries: number;
}

/** Entries of the list at the end that are kept as one piece. */
const HEADERS_AT_ONCE = 4096;
/** As much has to be saved for deflate to be worth it. */
const WORTH = 0.97;

/**
 * Make a zip file of a tar: the kinds, modes and times of its entries kept, deflated on all cores, stored where that does not
 * shrink a file. Nothing is held in memory but a few blocks and the directory.
 * @param path must not exist; removed again when this rejects
 * @throws {SystemFailure} the disk is full
 * @throws what the tar stream fails with
 */
export async function tarToZip(
  tar: AsyncIterable<unknown>,
  path: string,
  { level, minFreeBytes }: PackOptions,
  signal: AbortSignal,
): Promise<Packed> {
  const file = await createArchiveFile(path, minFreeBytes);
  // Half a million small buffers would take far more than what is in them.
  const central: Buffer[] = [];
  let fresh: Buffer[] = [];
  let entries = 0;
  const pack = (): void => {
    central.push(Buffer.concat(fresh));
    fresh = [];
  };
  const add = (entry: ZipEntry): void => {
    entries++;
    if (fresh.push(centralHeader(entry)) === HEADERS_AT_ONCE) pack();
  };
  try {
    for await (const item of readTar(tar)) {
      signal.throwIfAborted();
      if (item.kind === "file" && item.size > BLOCK_BYTES) await addLarge(item, level, file, add);
      else await addSmall(item, level, file, add);
    }
    await file.queue(0, async () => {
      const offset = file.position;
      pack();
      for (const headers of central) await file.append(headers);
      await file.append(zipEnd(entries, file.position - offset, offset));
    });
    return { bytes: await file.finish(), entries };
  } finally {
    await file.close();
  }
}

async function addSmall(
  item: TarItem,
  level: CompressionLevel,
  file: ArchiveFile,
  add: (entry: ZipEntry) => void,
): Promise<void> {
  const plain = item.kind === "file" ? await item.body.take(item.size) : Buffer.from(item.target, "latin1");
  const entry = { ...entryOf(item), size: plain.length, crc: crc32(plain) };
  let coming: Promise<Buffer> | undefined;
  if (item.kind === "file" && plain.length > 64) {
    for await (const { deflated } of deflateBlocks(
      { take: async () => plain, some: async () => plain },
      plain.length,
      level,
    ))
      coming = deflated();
    coming?.catch(() => {}); // its failure is thrown when its turn comes
  }
  await file.queue(plain.length * 2, async () => {
    const deflated = await coming;
    const shrunk = deflated !== undefined && deflated.length < plain.length ? deflated : undefined;
    const content = shrunk ?? plain;
    const method = shrunk === undefined ? ("stored" as const) : ("deflated" as const);
    const done = { ...entry, method, compressedSize: content.length, offset: file.position };
    await file.append(localHeader(done));
    await file.append(content);
    add(done);
  });
}

async function addLarge(
  item: TarItem,
  level: CompressionLevel,
  file: ArchiveFile,
  add: (entry: ZipEntry) => void,
): Promise<void> {
  let [offset, compressedSize, crc] = [0, 0, 0];
  let worth: boolean | undefined;
  const base = entryOf(item);
  await file.queue(0, async () => {
    offset = file.position;
    await file.append(localHeader({ ...base, method: "stored", compressedSize: 0, offset }));
  });
  for await (const block of deflateBlocks(item.body, item.size, level)) {
    const { plain } = block;
    crc = block.crc;
    // The first block speaks for the file.
    const coming = worth === false ? Promise.resolve(plain) : block.deflated();
    coming.catch(() => {}); // its failure is thrown when its turn comes
    worth ??= (await coming).length < plain.length * WORTH;
    const content = worth ? coming : Promise.resolve(plain);
    await file.queue(plain.length * 2, async () => {
      const bytes = await content;
      compressedSize += bytes.length;
      await file.append(bytes);
    });
  }
  await file.queue(0, async () => {
    const method = worth === true ? ("deflated" as const) : ("stored" as const);
    const done = { ...base, method, crc, compressedSize, offset };
    await file.patch(localHeader(done), offset);
    add(done);
  });
}

function entryOf({
  name,
  kind,
  size,
  mode,
  mtimeSeconds,
  target,
}: TarItem): Omit<ZipEntry, "method" | "offset" | "compressedSize"> {
  return { name, kind, size, mode, mtimeSeconds, target, crc: 0 };
}
