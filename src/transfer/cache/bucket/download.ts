import { type FileHandle, open } from "node:fs/promises";
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
}

/**
 * One try. The first piece says how large the object is; the rest of a large one comes in pieces, several at once, as long as it is
 * the same object.
 * @returns `null`: there is no such object
 * @throws {SystemFailure} `retry`: it was replaced meanwhile, too
 */
export async function download(
  requests: Requests,
  { path, object, under }: Target,
  onBytes: OnBytes,
  signal: AbortSignal,
): Promise<{ readonly bytes: number; readonly answer: Answer } | null> {
  const file = await open(path, "w", 0o600);
  const get = { method: "GET", object, under, what: "read from" } as const;
  try {
    let got = 0;
    const sink = sinkAt(file, 0, (bytes) => {
      got = bytes;
      onBytes(bytes, 0);
    });
    const answer = await requests.once(
      { ...get, unsigned: { range: `bytes=0-${requests.largeBytes - 1}` }, sink },
      signal,
    );
    if (isMissing(answer)) return null;
    const expected = Number(first(answer.headers["content-length"]) ?? got);
    const whole = totalOf(answer);
    // Nothing of an object without bytes can be asked for.
    if (answer.status === 416) return { bytes: 0, answer };
    demandAll(got, expected, object);
    if (whole === undefined || whole <= got) return { bytes: got, answer };
    const rest = piecesOf(got, whole, Math.ceil(requests.largeBytes / 4));
    const tag = first(answer.headers.etag);
    const same = tag?.startsWith('"') === true ? { "if-match": tag } : {};
    const options = { onBytes: (bytes: number) => onBytes(got + bytes, whole), signal };
    await moveAll(rest, options, async ({ from, bytes }, moved, stop) => {
      const unsigned = { range: `bytes=${from}-${from + bytes - 1}`, ...same };
      await requests.repeat(async () => {
        let came = 0;
        const its = sinkAt(file, from, (done) => {
          came = done;
          moved(done);
        });
        const part = await requests.once({ ...get, unsigned, sink: its }, stop);
        if (part.status !== 206) throw replaced(object);
        demandAll(came, bytes, object);
      }, stop);
    });
    return { bytes: whole, answer };
  } finally {
    await file.close();
  }
}

function sinkAt(file: FileHandle, from: number, moved: (bytes: number) => void): Sink {
  let bytes = 0;
  return async (piece) => {
    for (let done = 0; done < piece.length; ) {
      done += (await file.write(piece, done, piece.length - done, from + bytes + done)).bytesWritten;
    }
    bytes += piece.length;
    moved(bytes);
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
