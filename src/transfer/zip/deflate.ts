import { promisify } from "node:util";
import { constants, crc32, deflateRaw } from "node:zlib";
import type { ByteReader } from "../../files/byte-reader.ts";
import type { CompressionLevel } from "../transfer.ts";
import { WORTH, ZLIB_LEVELS } from "./batch.ts";

const deflate = promisify(deflateRaw);

/** Larger contents are deflated in blocks of this size, at the same time on all cores. */
export const BLOCK_BYTES = 1024 * 1024;
/** Distance over which deflate finds repetitions. */
const WINDOW_BYTES = 32 * 1024;

interface Block {
  readonly plain: Buffer;
  /** The content's CRC-32 up to and with this block. */
  readonly crc: number;
  readonly deflated: () => Promise<Buffer>;
}

/**
 * The blocks of a content of known size, to be deflated at the same time. Joined they are one deflate stream:
 * each block ends on a byte and knows the window before it.
 */
export async function* deflateBlocks(body: ByteReader, size: number, level: CompressionLevel): AsyncGenerator<Block> {
  let crc = 0;
  let window: Buffer | undefined;
  let strategy: number | undefined;
  for (let left = size; left > 0; ) {
    const plain = await body.take(Math.min(BLOCK_BYTES, left));
    left -= plain.length;
    crc = crc32(plain, crc);
    strategy ??= await strategyFor(plain, level);
    const finishFlush = left === 0 ? constants.Z_FINISH : constants.Z_SYNC_FLUSH;
    const options = {
      level: ZLIB_LEVELS[level],
      strategy,
      finishFlush,
      ...(window === undefined ? {} : { dictionary: window }),
    };
    yield { plain, crc, deflated: () => deflate(plain, options) };
    window = plain.subarray(-WINDOW_BYTES);
  }
}

const SAMPLE_BYTES = 64 * 1024;

/**
 * Base64, hexadecimal digits and the like repeat no words, only letters: to look for words takes five times as long and saves
 * nothing. A sample of the first block tells.
 */
async function strategyFor(plain: Buffer, level: CompressionLevel): Promise<number> {
  const { Z_HUFFMAN_ONLY, Z_DEFAULT_STRATEGY } = constants;
  if (plain.length < 2 * SAMPLE_BYTES) return Z_DEFAULT_STRATEGY;
  const sample = plain.subarray(SAMPLE_BYTES, 2 * SAMPLE_BYTES);
  const letters = await deflate(sample, { level: 1, strategy: Z_HUFFMAN_ONLY });
  if (letters.length >= sample.length * WORTH) return Z_DEFAULT_STRATEGY;
  const words = await deflate(sample, { level: ZLIB_LEVELS[level] });
  return letters.length <= words.length * 1.01 ? Z_HUFFMAN_ONLY : Z_DEFAULT_STRATEGY;
}

/** A deflate stream of no content. */
export const deflatedNothing: Buffer = Buffer.from([3, 0]);
