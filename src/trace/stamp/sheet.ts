/** From this size on what is put together lies in memory that is used again. */
const LARGE_BYTES = 16 * 1024;
/** Lines of usual length fit; what takes more is memory of its own. */
const KEPT_BYTES = 256 * 1024;

/** Bytes that are put one behind the other, of a size that shows on the way. */
export interface Sheet {
  put(bytes: Buffer, from?: number, to?: number): void;
  /** All of it. Where it is large, it is valid until another large sheet begins. */
  bytes(): Buffer;
}

/** The output of all jobs goes through it, one piece at a time: a flood makes no garbage, and many jobs need no more than one. */
let shared: Buffer | undefined;

export function createSheet(expectedBytes: number): Sheet {
  const isLarge = expectedBytes >= LARGE_BYTES;
  let sheet = isLarge ? largeOf(expectedBytes) : Buffer.allocUnsafe(expectedBytes);
  let end = 0;

  function grow(needed: number): void {
    const grown = Buffer.allocUnsafe(Math.max(needed, 2 * sheet.length));
    sheet.copy(grown, 0, 0, end);
    sheet = grown;
    if (isLarge && grown.length <= KEPT_BYTES) shared = grown;
  }

  return {
    put(bytes, from = 0, to = bytes.length) {
      const after = end + to - from;
      if (after > sheet.length) grow(after);
      bytes.copy(sheet, end, from, to);
      end = after;
    },
    bytes: () => sheet.subarray(0, end),
  };
}

function largeOf(bytes: number): Buffer {
  if (shared !== undefined && shared.length >= bytes) return shared;
  const large = Buffer.allocUnsafeSlow(bytes);
  if (bytes <= KEPT_BYTES) shared = large;
  return large;
}
