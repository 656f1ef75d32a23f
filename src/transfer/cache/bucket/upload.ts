import { open } from "node:fs/promises";
import { SystemFailure } from "../../../errors.ts";
import type { OnBytes } from "../cache-store.ts";
import { uploadBlocks } from "./blocks.ts";
import { uploadParts } from "./parts.ts";
import { bodyOf, type OpenUpload } from "./pieces.ts";
import { isMissing, type Requests } from "./requests.ts";
import type { Way } from "./way.ts";

/** An archive on this disk that becomes an object. */
export interface Upload {
  readonly path: string;
  readonly size: number;
  readonly object: string;
  readonly under: string;
  readonly fingerprint: string;
  /** The cache's key, as people know it. */
  readonly key: string;
}

/** As much of a key as a header may hold, and all stores take. */
const KEY_BYTES = 500;

/** Other than plain signs are written as in addresses: a header has none. */
function plain(key: string): string {
  const written = key.toWellFormed().replace(/[^\x21-\x24\x26-\x7e]+/gu, encodeURIComponent);
  return written.slice(0, KEY_BYTES);
}

export async function upload(
  requests: Requests,
  way: Way,
  { path, fingerprint, key, ...rest }: Upload,
  onBytes: OnBytes,
  signal: AbortSignal,
): Promise<void> {
  const file = await open(path, "r");
  try {
    const headers = { [way.fingerprintHeader]: fingerprint, [way.keyHeader]: plain(key), ...way.createHeaders };
    const opened: OpenUpload = { ...rest, file, headers };
    if (rest.size <= requests.largeBytes) await uploadWhole(requests, way, opened, onBytes, signal);
    else await (way.pieces === "parts" ? uploadParts : uploadBlocks)(requests, opened, onBytes, signal);
  } finally {
    await file.close();
  }
}

async function uploadWhole(
  requests: Requests,
  way: Way,
  { file, size, object, under, headers }: OpenUpload,
  onBytes: OnBytes,
  signal: AbortSignal,
): Promise<void> {
  const body = bodyOf(file, { number: 1, from: 0, bytes: size }, (bytes) => onBytes(bytes, size));
  const answer = await requests.call(
    {
      method: "PUT",
      object,
      under,
      headers: { ...headers, ...way.wholeHeaders },
      unsigned: { "content-type": "application/octet-stream" },
      body,
      what: "write to",
    },
    signal,
  );
  if (isMissing(answer)) throw new SystemFailure("cannot write to the bucket: status 404");
}
