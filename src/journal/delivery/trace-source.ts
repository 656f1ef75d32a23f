import { stat } from "node:fs/promises";
import { crc32 } from "node:zlib";
import type { StoredTrace } from "../../coordinator/contract.ts";
import { storedTrace } from "../../trace/stored.ts";
import { fileCrc32, readRange } from "../records/spool-file.ts";

/** A finished job's trace, read as often as delivering it takes. */
export interface TraceSource {
  /** Bytes; `null`: it is gone. */
  size(): Promise<number | null>;
  /** Bytes `[from, from + length)`, fewer at the end; perhaps in `into`, which must have room for them. */
  read(from: number, length: number, into?: Buffer): Promise<Buffer>;
  /** CRC-32 (IEEE) over the first `size` bytes. */
  crc32(size: number): Promise<number>;
  whole(size: number): StoredTrace;
}

export function fromSpool(path: string): TraceSource {
  return {
    size: () =>
      stat(path).then(
        ({ size }) => size,
        () => null,
      ),
    read: (from, length, into) => readRange(path, from, length, into),
    crc32: (size) => fileCrc32(path, size),
    whole: (size) => storedTrace(path, size),
  };
}

export function fromMemory(bytes: Buffer): TraceSource {
  return {
    size: async () => bytes.length,
    read: async (from, length) => bytes.subarray(from, from + length),
    crc32: async (size) => crc32(bytes.subarray(0, size)),
    whole: (size) => traceOf(bytes.subarray(0, size)),
  };
}

/** A trace in memory. */
export function traceOf(bytes: Buffer): StoredTrace {
  return {
    size: bytes.length,
    async *open(signal) {
      signal.throwIfAborted();
      yield bytes;
    },
  };
}
