import { isUtf8 } from "node:buffer";
import { type FileHandle, open } from "node:fs/promises";
import { crc32 } from "node:zlib";

const CHUNK_BYTES = 1024 * 1024;
/** A character of UTF-8 has at most four bytes: so many may belong to one that goes on in the next chunk. */
const SPLIT_BYTES = 3;

/** Bytes `[from, from + length)` of a file, fewer at its end; in `into`, which must have room for them, where it is given. */
export async function readRange(path: string, from: number, length: number, into?: Buffer): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    return await readFrom(file, from, length, into);
  } finally {
    await file.close();
  }
}

async function readFrom(
  file: FileHandle,
  from: number,
  length: number,
  buffer: Buffer = Buffer.allocUnsafe(length),
): Promise<Buffer> {
  let read = 0;
  while (read < length) {
    const { bytesRead } = await file.read(buffer, read, length - read, from + read);
    if (bytesRead === 0) break;
    read += bytesRead;
  }
  return buffer.subarray(0, read);
}

/**
 * How many bytes from the start are what was written: valid UTF-8 without NUL. A spool holds nothing else, so the
 * first fault is where a power cut took what the disk had not got yet.
 */
export async function soundBytes(path: string): Promise<number> {
  const file = await open(path, "r");
  try {
    const block = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    for (let from = 0; ; ) {
      const chunk = await readFrom(file, from, CHUNK_BYTES, block);
      const good = soundPart(chunk);
      from += good;
      // What is left of a whole chunk may be the first part of a character; anything longer is a fault.
      if (chunk.length < CHUNK_BYTES || chunk.length - good > SPLIT_BYTES) return from;
    }
  } finally {
    await file.close();
  }
}

function soundPart(chunk: Buffer): number {
  const nul = chunk.indexOf(0);
  const text = nul === -1 ? chunk : chunk.subarray(0, nul);
  const whole = soundEnd(text, text.length);
  if (whole !== null) return whole;
  let good = 0;
  for (let bad = text.length; bad - good > 1; ) {
    const middle = (good + bad) >> 1;
    if (soundEnd(text, middle) === null) bad = middle;
    else good = middle;
  }
  return soundEnd(text, good) ?? 0;
}

/** Where the last whole character of the first `length` bytes ends; `null` if there is a fault before it. */
function soundEnd(text: Buffer, length: number): number | null {
  for (let end = length; end >= Math.max(0, length - SPLIT_BYTES); end--) {
    if (isUtf8(text.subarray(0, end))) return end;
  }
  return null;
}

/** CRC-32 (IEEE) over the first `size` bytes. */
export async function fileCrc32(path: string, size: number): Promise<number> {
  const file = await open(path, "r");
  try {
    let sum = 0;
    const block = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, size));
    for (let from = 0; from < size; ) {
      const chunk = await readFrom(file, from, Math.min(block.length, size - from), block);
      if (chunk.length === 0) break;
      sum = crc32(chunk, sum);
      from += chunk.length;
    }
    return sum;
  } finally {
    await file.close();
  }
}
