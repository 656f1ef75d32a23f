import { promisify } from "node:util";
import { constants, crc32, deflateRaw } from "node:zlib";
import type { ByteReader } from "../../files/byte-reader.ts";
import type { CompressionLevel } from "../transfer.ts";

const deflate = promisify(deflateRaw);

/** Larger contents are deflated in blocks of this size, at the same time on all cores. */
export const BLOCK_BYTES = 1024 * 1024;
/** As far back as deflate can look. */
const WINDOW_BYTES = 32 * 1024;

const LEVELS: Readonly<Record<CompressionLevel, number>> = { fastest: 1, fast: 3, default: 5, slow: 7, slowest: 9 };

/**
 * The blocks of a content of known size, to be deflated at the same time. Joined they are one deflate stream:
 * each block ends on a byte and knows the window before it. `crc` is the content's CRC-32 up to and with the block.
 */
export async function* deflateBlocks(
  body: ByteReader,
  size: number,
  level: CompressionLevel,
): AsyncGenerator<{ readonly plain: Buffer; readonly crc: number; readonly deflated: () => Promise<Buffer> }> {
  let crc = 0;
  let window: Buffer | undefined;
  for (let left = size; left > 0; ) {
    const plain = await body.take(Math.min(BLOCK_BYTES, left));
    left -= plain.length;
    crc = crc32(plain, crc);
    const finishFlush = left === 0 ? constants.Z_FINISH : constants.Z_SYNC_FLUSH;
    const options = { level: LEVELS[level], finishFlush, ...(window === undefined ? {} : { dictionary: window }) };
    yield { plain, crc, deflated: () => deflate(plain, options) };
    window = plain.subarray(-WINDOW_BYTES);
  }
}

/** A deflate stream of no content. */
export const deflatedNothing: Buffer = Buffer.from([3, 0]);
