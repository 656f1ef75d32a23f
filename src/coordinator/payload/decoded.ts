import { promisify } from "node:util";
import { brotliDecompress, gunzip, inflate } from "node:zlib";
import type { Answer } from "../exchange.ts";
import { first } from "../retry-after.ts";

const decoders = new Map([
  ["gzip", promisify(gunzip)],
  ["x-gzip", promisify(gunzip)],
  ["deflate", promisify(inflate)],
  ["br", promisify(brotliDecompress)],
]);

/**
 * The body of an answer, decompressed. We never ask for compression, but a proxy on the way that does it anyway must not
 * cost a job. What cannot be decoded, or would be larger than `mostBytes`, is left as it came.
 */
export async function decoded({ headers, body }: Answer, mostBytes: number): Promise<Buffer> {
  const decode = decoders.get((first(headers["content-encoding"]) ?? "").trim().toLowerCase());
  if (decode === undefined) return body;
  try {
    return await decode(body, { maxOutputLength: mostBytes });
  } catch {
    return body;
  }
}
