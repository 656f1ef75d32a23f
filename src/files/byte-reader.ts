/** A stream of bytes, read in the lengths that its reader asks for. */
export interface ByteReader {
  /** Exactly `length` bytes, or fewer where the stream ends. */
  take(length: number): Promise<Buffer>;
  /**
   * Like `take`, but at once if enough bytes have come already: to wait for each of many small pieces takes longer than
   * to read them.
   */
  now(length: number): Buffer | undefined;
  /** The next bytes as they came, at most `most` of them; empty at the end. */
  some(most: number): Promise<Buffer>;
}

const NOTHING = Buffer.alloc(0);

export function createByteReader(stream: AsyncIterable<unknown>): ByteReader {
  const chunks = stream[Symbol.asyncIterator]();
  let rest: Buffer = NOTHING;
  const more = async (): Promise<boolean> => {
    while (rest.length === 0) {
      const { done, value } = await chunks.next();
      if (done === true) return false;
      if (!(value instanceof Uint8Array)) throw new TypeError("a stream of bytes is expected");
      rest = Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    }
    return true;
  };
  const some = async (most: number): Promise<Buffer> => {
    if (most <= 0 || !(await more())) return NOTHING;
    const piece = rest.subarray(0, most);
    rest = rest.subarray(piece.length);
    return piece;
  };
  return {
    some,
    now(length) {
      if (rest.length < length) return undefined;
      const piece = rest.subarray(0, length);
      rest = rest.subarray(length);
      return piece;
    },
    async take(length) {
      const first = await some(length);
      if (first.length === length) return first;
      const pieces = [first];
      for (let have = first.length; have < length; ) {
        const piece = await some(length - have);
        if (piece.length === 0) break;
        pieces.push(piece);
        have += piece.length;
      }
      return Buffer.concat(pieces);
    },
  };
}
