import { ScriptFailure } from "../../errors.ts";
import { readTar } from "../../files/tar.ts";
import { fileNameText } from "../../workspace.ts";
import { createArchiveFile } from "../archive-file.ts";
import { deflateBlocks, deflatedNothing } from "../zip/deflate.ts";
import type { Packed, PackOptions } from "../zip/write.ts";

/** The formats of reports, which a coordinator reads itself: no names or modes that matter. */

/** One gzip member for each file of a tar, one after the other. @param path as for `tarToZip` */
export async function tarToGzip(
  tar: AsyncIterable<unknown>,
  path: string,
  { level, minFreeBytes }: PackOptions,
  signal: AbortSignal,
): Promise<Packed> {
  const file = await createArchiveFile(path, minFreeBytes);
  let entries = 0;
  try {
    for await (const { kind, name, size, mtimeSeconds, body } of readTar(tar)) {
      signal.throwIfAborted();
      if (kind !== "file") continue;
      entries++;
      const base = name.slice(name.lastIndexOf("/") + 1);
      const head = Buffer.from([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255]);
      head.writeUInt32LE(Math.min(Math.max(mtimeSeconds, 0), 0xffffffff), 4);
      await file.queue(0, async () => await file.append(Buffer.concat([head, Buffer.from(`${base}\0`, "latin1")])));
      let crc = 0;
      for await (const block of deflateBlocks(body, size, level)) {
        crc = block.crc;
        const coming = block.deflated();
        coming.catch(() => {}); // the failure is thrown when its turn comes
        await file.queue(block.plain.length * 2, async () => await file.append(await coming));
      }
      const tail = Buffer.alloc(8);
      tail.writeUInt32LE(crc, 0);
      tail.writeUInt32LE(size % 2 ** 32, 4);
      await file.queue(0, async () => {
        if (size === 0) await file.append(deflatedNothing);
        await file.append(tail);
      });
    }
    return { bytes: await file.finish(), entries };
  } finally {
    await file.close();
  }
}

/**
 * Writes the one file of a tar as it is.
 * @throws {ScriptFailure} there are several
 */
export async function tarToRaw(
  tar: AsyncIterable<unknown>,
  path: string,
  { minFreeBytes }: PackOptions,
  signal: AbortSignal,
): Promise<Packed> {
  const file = await createArchiveFile(path, minFreeBytes);
  let only: string | undefined;
  try {
    for await (const { kind, name, size, body } of readTar(tar)) {
      signal.throwIfAborted();
      if (kind !== "file") continue;
      if (only !== undefined) {
        throw new ScriptFailure(
          `an artifact of the format raw is one file, and there are ${fileNameText(only)} and ${fileNameText(name)}`,
        );
      }
      only = name;
      for (let left = size; left > 0; ) {
        const piece = await body.some(left);
        left -= piece.length;
        await file.append(piece);
      }
    }
    return { bytes: await file.finish(), entries: only === undefined ? 0 : 1 };
  } finally {
    await file.close();
  }
}
