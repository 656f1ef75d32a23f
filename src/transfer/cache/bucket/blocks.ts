import { SystemFailure } from "../../../errors.ts";
import type { OnBytes } from "../cache-store.ts";
import { bodyOf, moveAll, type OpenUpload, type Piece, piecesOf } from "./pieces.ts";
import { isMissing, type Requests } from "./requests.ts";

/** Azure takes 50,000. */
const MOST_BLOCKS = 45_000;

/** Blocks of Azure, and then their list, with which the blob appears. What is not in a list vanishes after a week. */
export async function uploadBlocks(
  requests: Requests,
  { file, size, object, under, headers }: OpenUpload,
  onBytes: OnBytes,
  signal: AbortSignal,
): Promise<void> {
  const to = { method: "PUT", object, under, what: "write to" } as const;
  const pieces = piecesOf(0, size, Math.max(Math.ceil(requests.largeBytes / 4), Math.ceil(size / MOST_BLOCKS)));
  await moveAll(pieces, { onBytes: (bytes) => onBytes(bytes, size), signal }, async (piece, moved, stop) => {
    const query = { comp: "block", blockid: idOf(piece) };
    const answer = await requests.call({ ...to, query, body: bodyOf(file, piece, moved) }, stop);
    if (isMissing(answer)) throw gone();
  });
  const list = pieces.map((piece) => `<Latest>${idOf(piece)}</Latest>`).join("");
  const bytes = Buffer.from(`<?xml version="1.0" encoding="utf-8"?><BlockList>${list}</BlockList>`);
  const unsigned = { "content-type": "application/xml" };
  const answer = await requests.call(
    { ...to, query: { comp: "blocklist" }, headers, unsigned, body: { bytes } },
    signal,
  );
  if (isMissing(answer)) throw gone();
}

/** All of the same length. */
function idOf({ number }: Piece): string {
  return Buffer.from(String(number).padStart(8, "0")).toString("base64");
}

function gone(): SystemFailure {
  return new SystemFailure("cannot write to the container: status 404");
}
