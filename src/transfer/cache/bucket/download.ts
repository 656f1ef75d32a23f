import { type FileHandle, open } from "node:fs/promises";
import { crc32c, joinCrc32c } from "../../../cloud/google/crc32c.ts";
import type { Sink } from "../../../coordinator/contract.ts";
import type { Answer } from "../../../coordinator/exchange.ts";
import { first } from "../../../coordinator/retry-after.ts";
import { SystemFailure } from "../../../errors.ts";
import type { OnBytes } from "../cache-store.ts";
import { moveAll, piecesOf } from "./pieces.ts";
import { isMissing, type Requests } from "./requests.ts";

interface Target {
  /** The file that the object becomes. */
  readonly path: string;
  readonly object: string;
  readonly under: string;
  /** The bytes are summed as they come. */
  readonly summed: boolean;
}

export interface Downloaded {
  readonly bytes: number;
  readonly answer: Answer;
  /** CRC-32C of all bytes, if it was asked for. */
  readonly sum?: number;
}

/**
 * One try. The first piece says how large the object is; the rest of a large one comes in pieces, several at once, as long as it is
 * the same object.
 * @returns `null`: there is no such object
 * @throws {SystemFailure} `retry`: it was replaced meanwhile, too
 */
export async function download(
  requests: Requests,
  { path, object, under, summed }: Target,
  onBytes: OnBytes,
  signal: AbortSignal,
): Promise<Downloaded | null> {
  const file = await open(path, "w", 0o600);
  const get = { method: "GET", object, under, what: "read from" } as const;
  try {
    const head = sinkAt(file, 0, summed, (bytes) => onBytes(bytes, 0));
    const range = `bytes=0-${requests.largeBytes - 1}`;
    const answer = await requests.once({ ...get, unsigned: { range }, sink: head.take }, signal);
    if (isMissing(answer)) return null;
    const got = head.bytes;
    const expected = Number(first(answer.headers["content-length"]) ?? got);
    const told = (bytes: number, sum: number): Downloaded => ({ bytes, answer, ...(summed ? { sum } : {}) });
    const whole = totalOf(answer);
    // Nothing of an object without bytes can be asked for.
    if (answer.status === 416) return told(0, 0);
    demandAll(got, expected, object);
    if (whole === undefined || whole <= got) return told(got, head.sum);
    const rest = piecesOf(got, whole, Math.ceil(requests.largeBytes / 4));
    const tag = first(answer.headers.etag);
    const same = tag?.startsWith('"') === true ? { "if-match": tag } : {};
    const sums = new Map<number, number>();
    const options = { onBytes: (bytes: number) => onBytes(got + bytes, whole), signal };
    await moveAll(rest, options, async ({ number, from, bytes }, moved, stop) => {
      const unsigned = { range: `bytes=${from}-${from + bytes - 1}`, ...same };
      await requests.repeat(async () => {
        const its = sinkAt(file, from, summed, moved);
        const part = await requests.once({ ...get, unsigned, sink: its.take }, stop);
        if (part.status !== 206) throw replaced(object);
        demandAll(its.bytes, bytes, object);
        sums.set(number, its.sum);
      }, stop);
    });
    const sum = rest.reduce((before, { number, bytes }) => joinCrc32c(before, sums.get(number) ?? 0, bytes), head.sum);
    return told(whole, sum);
  } finally {
    await file.close();
  }
}

interface PieceSink {
  readonly take: Sink;
  /** So far. */
  readonly bytes: number;
  readonly sum: number;
}

function sinkAt(file: FileHandle, from: number, summed: boolean, moved: (bytes: number) => void): PieceSink {
  let bytes = 0;
  let sum = 0;
  return {
    get bytes() {
      return bytes;
    },
    get sum() {
      return sum;
    },
    async take(piece) {
      for (let done = 0; done < piece.length; ) {
        done += (await file.write(piece, done, piece.length - done, from + bytes + done)).bytesWritten;
      }
      if (summed) sum = crc32c(piece, sum);
      bytes += piece.length;
      moved(bytes);
    },
  };
}

/** Of the object: `Content-Range: bytes 0-9/100`. */
function totalOf({ status, headers }: Answer): number | undefined {
  const total = /^bytes 0-\d+\/(\d+)$/.exec(first(headers["content-range"]) ?? "")?.[1];
  return status === 206 && total !== undefined ? Number(total) : undefined;
}

function demandAll(bytes: number, expected: number, object: string): void {
  if (bytes === expected) return;
  throw new SystemFailure(`only ${bytes} of ${expected} bytes of ${object} came from the bucket`, { retry: true });
}

function replaced(object: string): SystemFailure {
  return new SystemFailure(`${object} was replaced while it was read`, { retry: true });
}
