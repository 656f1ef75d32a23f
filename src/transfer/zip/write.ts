import { readTar, type TarItem } from "../../files/tar.ts";
import { type ArchiveFile, createArchiveFile } from "../archive-file.ts";
import type { CompressionLevel } from "../transfer.ts";
import { DONE, STORED, WORTH } from "./batch.ts";
import { BLOCK_BYTES, deflateBlocks } from "./deflate.ts";
import { centralHeader, localHeader, localHeaderBytes, type ZipEntry, zipEnd } from "./records.ts";
import { inThread } from "./threads.ts";

export interface PackOptions {
  readonly level: CompressionLevel;
  /** What the disk must still have free. */
  readonly minFreeBytes: number;
}

export interface Packed {
  /** Size of the archive. */
  readonly bytes: number;
  readonly entries: number;
}

/** Entries of the list at the end that are kept as one piece. */
const HEADERS_AT_ONCE = 4096;
/** Of small entries with their headers, which are handed to a thread together: the largest of them fits with the longest name. */
const BATCH_BYTES = BLOCK_BYTES + 128 * 1024;

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
  // Half a million small buffers would take far more memory than their content.
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
    const small = createBatcher(level, file, add);
    for await (const item of readTar(tar)) {
      signal.throwIfAborted();
      if (item.kind === "file" && item.size > BLOCK_BYTES) {
        await small.flush();
        await addLarge(item, level, file, add);
      } else await small.add(item);
    }
    await small.flush();
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

interface Batcher {
  add(item: TarItem): Promise<void>;
  /** Hand over what is gathered. */
  flush(): Promise<void>;
}

/**
 * Gathers small entries, each with room for its header before it, to be deflated together; they stay in the order in which they
 * came. Buffers go to a thread and come back, and are filled again: new memory for each would cost more than to compress it.
 */
function createBatcher(level: CompressionLevel, file: ArchiveFile, add: (entry: ZipEntry) => void): Batcher {
  const spare: Buffer[] = [];
  let bytes: Buffer | undefined;
  let used = 0;
  let entries: Omit<ZipEntry, "method" | "offset" | "compressedSize">[] = [];
  let numbers: number[] = [];
  const flush = async (): Promise<void> => {
    if (bytes === undefined) return;
    const coming = inThread({ work: "deflate", level, bytes, numbers: Uint32Array.from(numbers) });
    coming.catch(() => {}); // the failure is thrown when its turn comes
    const [its, weight] = [entries, bytes.length];
    [bytes, used, entries, numbers] = [undefined, 0, [], []];
    await file.queue(weight, async () => {
      const batched = await coming;
      const { buffer, byteOffset, byteLength } = batched.bytes;
      const contents = Buffer.from(buffer, byteOffset, byteLength);
      const start = file.position;
      let at = 0;
      for (const [index, entry] of its.entries()) {
        const [method = 0, compressedSize = 0, crc = 0] = batched.numbers.subarray(index * DONE, (index + 1) * DONE);
        const done: ZipEntry = {
          ...entry,
          method: method === STORED ? "stored" : "deflated",
          compressedSize,
          crc,
          offset: start + at,
        };
        at += localHeader(done).copy(contents, at) + compressedSize;
        add(done);
      }
      await file.append(contents.subarray(0, at));
      if (contents.length === BATCH_BYTES) spare.push(contents);
    });
  };
  return {
    flush,
    async add(item) {
      const length = item.kind === "file" ? item.size : item.target.length;
      const room = localHeaderBytes(item);
      if (used + room + length > BATCH_BYTES) await flush();
      bytes ??= spare.pop() ?? Buffer.allocUnsafeSlow(BATCH_BYTES);
      used += room;
      if (item.kind === "file") bytes.set(item.body.now(item.size) ?? (await item.body.take(item.size)), used);
      else bytes.write(item.target, used, "latin1");
      used += length;
      numbers.push(room, length);
      entries.push({ ...entryOf(item), size: length });
    },
  };
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
    // Whether the first block shrinks decides for the whole file.
    const coming = worth === false ? Promise.resolve(plain) : block.deflated();
    coming.catch(() => {}); // the failure is thrown when its turn comes
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
