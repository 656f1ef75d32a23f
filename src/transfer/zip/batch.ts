import { crc32, deflateRawSync, inflateRawSync, zstdDecompressSync } from "node:zlib";
import { type CompressionLevel, compressionLevels } from "../transfer.ts";
import { findLibdeflate } from "./libdeflate.ts";

/**
 * Contents of many small files, deflated or inflated in one go: a call, a promise and a stream for each of ten thousand files
 * took longer than the compression itself. Pure, so that a thread can do it, or whoever has only a little.
 */

/** Contents in one buffer, and numbers that say what they are. */
export interface Batch {
  readonly work: "deflate" | "inflate";
  readonly level: CompressionLevel;
  readonly bytes: Uint8Array;
  /** To deflate: `PLAIN` numbers for each content. To inflate: `PACKED` numbers for each. */
  readonly numbers: Uint32Array;
}

export interface Batched {
  /**
   * Deflated: the same buffer, contents moved together, each with its room before it; what nothing is in any more is at its end.
   * Inflated: the contents one after the other.
   */
  readonly bytes: Uint8Array;
  /** Deflated: `DONE` numbers for each content. Inflated: empty or, of the first one that is damaged, its index and a `Fault`. */
  readonly numbers: Uint32Array;
}

/** Of a content that is to be deflated: the room before it, which is for whoever puts something there, and its length. */
const PLAIN = 2;

/** Of a content that is to be inflated: method, where it begins, its compressed size, its size, its CRC-32. */
const PACKED = 5;
/** Of a content that was deflated: its method (0 where it is stored as it was), its size now, the CRC-32 of what it was. */
export const DONE = 3;
export const STORED = 0;
export const DEFLATED = 8;

export const faults = ["none", "cannot be decompressed", "size", "checksum"] as const;
export type Fault = (typeof faults)[number];

/** A shorter content does not shrink. */
const LEAST_BYTES = 64;
/** Of a longer content a sample is tried first. */
const SAMPLED_BYTES = 128 * 1024;
const SAMPLE_BYTES = 16 * 1024;
/** Deflate is used only if it brings a content down to this share of its size. */
export const WORTH = 0.97;

/** zlib's; libdeflate's own levels, which reach further, as those that are about as small. */
export const ZLIB_LEVELS: Readonly<Record<CompressionLevel, number>> = {
  fastest: 1,
  fast: 3,
  default: 5,
  slow: 7,
  slowest: 9,
};
const LIBDEFLATE_LEVELS: Readonly<Record<CompressionLevel, number>> = {
  fastest: 1,
  fast: 2,
  default: 3,
  slow: 7,
  slowest: 12,
};

export function performBatch(batch: Batch): Batched {
  return batch.work === "deflate" ? deflateBatch(batch) : inflateBatch(batch);
}

function deflateBatch({ bytes, numbers, level }: Batch): Batched {
  const libdeflate = findLibdeflate();
  const deflate = (plain: Uint8Array, its: CompressionLevel): Uint8Array =>
    libdeflate === null
      ? deflateRawSync(plain, { level: ZLIB_LEVELS[its] })
      : libdeflate(plain, LIBDEFLATE_LEVELS[its]);
  const done = new Uint32Array((numbers.length / PLAIN) * DONE);
  let [from, to] = [0, 0];
  for (let index = 0; index * PLAIN < numbers.length; index++) {
    const [room = 0, length = 0] = numbers.subarray(index * PLAIN, (index + 1) * PLAIN);
    from += room;
    to += room;
    const plain = bytes.subarray(from, from + length);
    const crc = crc32(plain);
    let content = plain;
    if (length > LEAST_BYTES && shrinks(plain, deflate)) {
      const deflated = deflate(plain, level);
      if (deflated.length < length) content = deflated;
    }
    // The target never overtakes the source, because no content grows.
    if (content !== plain || from !== to) bytes.set(content, to);
    done.set([content === plain ? STORED : DEFLATED, content.length, crc], index * DONE);
    from += length;
    to += content.length;
  }
  return { bytes, numbers: done };
}

/** Pictures, archives and libraries are compressed already, which shows at any place in them. */
function shrinks(plain: Uint8Array, deflate: (plain: Uint8Array, level: CompressionLevel) => Uint8Array): boolean {
  if (plain.length < SAMPLED_BYTES) return true;
  const middle = (plain.length - SAMPLE_BYTES) >> 1;
  return [0, middle, plain.length - SAMPLE_BYTES].some(
    (from) => deflate(plain.subarray(from, from + SAMPLE_BYTES), "fastest").length < SAMPLE_BYTES * WORTH,
  );
}

function inflateBatch({ bytes, numbers }: Batch): Batched {
  let total = 0;
  for (let index = 0; index < numbers.length; index += PACKED) total += numbers[index + 3] ?? 0;
  const all = new Uint8Array(total);
  let at = 0;
  for (let index = 0; index < numbers.length; index += PACKED) {
    const [method = 0, from = 0, compressedSize = 0, size = 0, crc = 0] = numbers.subarray(index, index + PACKED);
    const content = expand(bytes.subarray(from, from + compressedSize), method, size);
    const fault: Fault =
      content === null
        ? "cannot be decompressed"
        : content.length !== size
          ? "size"
          : crc32(content) !== crc
            ? "checksum"
            : "none";
    if (content === null || fault !== "none") {
      return { bytes: new Uint8Array(0), numbers: Uint32Array.of(index / PACKED, faults.indexOf(fault)) };
    }
    all.set(content, at);
    at += size;
  }
  return { bytes: all, numbers: new Uint32Array(0) };
}

function expand(bytes: Uint8Array, method: number, size: number): Uint8Array | null {
  if (method === STORED) return bytes;
  try {
    const options = { maxOutputLength: Math.max(size, 1) };
    return method === DEFLATED ? inflateRawSync(bytes, options) : zstdDecompressSync(bytes, options);
  } catch {
    return null;
  }
}

export function isBatch(value: unknown): value is Batch {
  return (
    isBatched(value) &&
    "work" in value &&
    (value.work === "deflate" || value.work === "inflate") &&
    "level" in value &&
    compressionLevels.some((level) => level === value.level)
  );
}

export function isBatched(value: unknown): value is Batched {
  return (
    typeof value === "object" &&
    value !== null &&
    "bytes" in value &&
    value.bytes instanceof Uint8Array &&
    "numbers" in value &&
    value.numbers instanceof Uint32Array
  );
}
