import { first } from "../../../coordinator/retry-after.ts";
import { SystemFailure } from "../../../errors.ts";
import { deadline, never } from "../../../time.ts";
import type { OnBytes } from "../cache-store.ts";
import { bodyOf, moveAll, type OpenUpload, piecesOf } from "./pieces.ts";
import { isMissing, type Requests } from "./requests.ts";
import { partOf } from "./way.ts";

/** S3 takes 10,000. */
const MOST_PARTS = 9000;
const ABANDON_MS = 10_000;

/** A multipart upload of S3, which Google's XML interface has, too. The object appears with its last request. */
export async function uploadParts(
  requests: Requests,
  { file, size, object, under, headers }: OpenUpload,
  onBytes: OnBytes,
  signal: AbortSignal,
): Promise<void> {
  const to = { object, under, what: "write to" } as const;
  const begun = await requests.call(
    {
      ...to,
      method: "POST",
      query: { uploads: "" },
      headers,
      unsigned: { "content-type": "application/octet-stream" },
      body: NOTHING,
    },
    signal,
  );
  const uploadId = plain(partOf(begun, "UploadId"));
  if (isMissing(begun) || uploadId === "") throw new SystemFailure("the bucket begins no upload in parts");
  try {
    const tags = new Map<number, string>();
    const pieces = piecesOf(0, size, Math.max(Math.ceil(requests.largeBytes / 4), Math.ceil(size / MOST_PARTS)));
    await moveAll(pieces, { onBytes: (bytes) => onBytes(bytes, size), signal }, async (piece, moved, stop) => {
      const query = { partNumber: String(piece.number), uploadId };
      const answer = await requests.call({ ...to, method: "PUT", query, body: bodyOf(file, piece, moved) }, stop);
      const tag = first(answer.headers.etag);
      if (isMissing(answer) || tag === undefined) throw new SystemFailure("the bucket has lost an upload in parts");
      tags.set(piece.number, tag);
    });
    const list = pieces.map(
      ({ number }) => `<Part><PartNumber>${number}</PartNumber><ETag>${escaped(tags.get(number) ?? "")}</ETag></Part>`,
    );
    const bytes = Buffer.from(`<CompleteMultipartUpload>${list.join("")}</CompleteMultipartUpload>`);
    await requests.repeat(async () => {
      const call = { ...to, method: "POST", query: { uploadId }, unsigned: XML, body: { bytes } } as const;
      const answer = await requests.once(call, signal);
      // S3 answers 200 before it knows, and may say then that it failed.
      const code = partOf(answer, "Code");
      if (!isMissing(answer) && code === "") return;
      throw new SystemFailure(`cannot write to the bucket: its parts were not put together: ${code || "status 404"}`, {
        retry: code === "InternalError" || code === "SlowDown" || code === "ServiceUnavailable",
      });
    }, signal);
  } catch (error) {
    // Parts that nobody puts together cost money for as long as they are there.
    using limit = deadline(never, ABANDON_MS, new Error("the upload is not given up in time"));
    await requests.once({ ...to, method: "DELETE", query: { uploadId } }, limit.signal).catch(() => {});
    throw error;
  }
}

const NOTHING = { bytes: new Uint8Array() };
const XML = { "content-type": "application/xml" };

function plain(text: string): string {
  return text.replaceAll("&quot;", '"').replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
