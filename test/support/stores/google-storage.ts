import { createHash, randomBytes, verify } from "node:crypto";
import type { Reply } from "../../coordinator/server.ts";
import type { CloudRequest } from "./clouds.ts";

interface Stored {
  readonly bytes: Buffer;
  readonly fingerprint: string;
  readonly tag: string;
  /** As it was when it was stored. */
  readonly checksum: string;
}

export interface TestStorage {
  answer(request: CloudRequest): Reply;
  /** Answers the next requests with these statuses. */
  fail(...statuses: number[]): void;
  readonly objects: ReadonlyMap<string, Stored>;
  /** Uploads in parts that are neither complete nor given up. */
  readonly openUploads: ReadonlyMap<string, unknown>;
}

/**
 * Google's storage by its XML interface, as far as caches need it. It lets in who has the token, or an address that the key has
 * signed.
 */
export function googleStorage({ token, publicKey }: { token?: string; publicKey?: string }): TestStorage {
  const objects = new Map<string, Stored>();
  const uploads = new Map<string, { readonly fingerprint: string; readonly parts: Map<string, Buffer> }>();
  const failures: number[] = [];
  const store = (path: string, bytes: Buffer, fingerprint: string): Reply => {
    const tag = `"${createHash("md5").update(bytes).update(randomBytes(4)).digest("hex")}"`;
    objects.set(path, { bytes, fingerprint, tag, checksum: castagnoli(bytes) });
    return { status: 200, headers: { etag: tag } };
  };

  const answer = (request: CloudRequest): Reply => {
    const failure = failures.shift();
    if (failure !== undefined) return { status: failure };
    const url = new URL(request.path, "https://storage.googleapis.com");
    const admitted =
      publicKey === undefined ? request.headers.authorization === `Bearer ${token}` : isSigned(request, url, publicKey);
    if (!admitted) return { status: 403, body: "<Error><Code>AccessDenied</Code><Message>not you</Message></Error>" };
    const { pathname: path, searchParams: query } = url;
    if (!path.startsWith("/caches/")) return { status: 404, body: "<Error><Code>NoSuchBucket</Code></Error>" };
    const fingerprint = String(request.headers["x-goog-meta-alloy-fingerprint"] ?? "");
    const upload = uploads.get(query.get("uploadId") ?? "");
    switch (request.method) {
      case "GET":
        return read(objects.get(path), request);
      case "DELETE":
        uploads.delete(query.get("uploadId") ?? "");
        return { status: 204 };
      case "POST": {
        if (query.has("uploads")) {
          const id = randomBytes(6).toString("base64");
          uploads.set(id, { fingerprint, parts: new Map() });
          return {
            status: 200,
            body: `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`,
          };
        }
        if (upload === undefined) return { status: 404, body: "<Error><Code>NoSuchUpload</Code></Error>" };
        const numbers = [...request.body.toString().matchAll(/<PartNumber>(\d+)</g)].map((match) => match[1] ?? "");
        uploads.delete(query.get("uploadId") ?? "");
        return store(
          path,
          Buffer.concat(numbers.map((number) => upload.parts.get(number) ?? Buffer.alloc(0))),
          upload.fingerprint,
        );
      }
      default: {
        if (upload === undefined) return store(path, request.body, fingerprint);
        const number = query.get("partNumber") ?? "";
        upload.parts.set(number, request.body);
        return { status: 200, headers: { etag: `"part-${number}"` } };
      }
    }
  };
  return { answer, fail: (...statuses) => void failures.push(...statuses), objects, openUploads: uploads };
}

function read(stored: Stored | undefined, { headers }: CloudRequest): Reply {
  if (stored === undefined) return { status: 404, body: "<Error><Code>NoSuchKey</Code></Error>" };
  const { bytes, fingerprint, tag, checksum } = stored;
  if (headers["if-match"] !== undefined && headers["if-match"] !== tag) return { status: 412 };
  const common = {
    etag: tag,
    "x-goog-hash": `md5=${Buffer.alloc(16).toString("base64")},crc32c=${checksum}`,
    "x-goog-meta-alloy-fingerprint": fingerprint,
    "last-modified": "Fri, 02 Jan 2026 03:04:05 GMT",
  };
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "") ?? [];
  if (from === undefined) return { status: 200, headers: common, body: bytes };
  if (Number(from) >= bytes.length) return { status: 416, headers: common };
  const piece = bytes.subarray(Number(from), Number(to) + 1);
  const range = `bytes ${from}-${Number(from) + piece.length - 1}/${bytes.length}`;
  return { status: 206, headers: { ...common, "content-range": range }, body: piece };
}

/** CRC-32C by its definition, bit by bit, in base64. */
export function castagnoli(bytes: Buffer): string {
  let value = 0xffffffff;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  }
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(~value >>> 0);
  return sum.toString("base64");
}

/** By the rules of the documentation, from what came. */
function isSigned(
  { method, path, headers }: CloudRequest,
  { searchParams: query, pathname }: URL,
  publicKey: string,
): boolean {
  const [, search = ""] = path.split("?");
  const names = query.get("X-Goog-SignedHeaders") ?? "";
  const canonical = [
    method,
    pathname,
    search
      .split("&")
      .filter((part) => !part.startsWith("X-Goog-Signature="))
      .join("&"),
    ...names.split(";").map((name) => `${name}:${headers[name]}`),
    "",
    names,
    "UNSIGNED-PAYLOAD",
  ].join("\n");
  const date = query.get("X-Goog-Date") ?? "";
  const scope = (query.get("X-Goog-Credential") ?? "").split("/").slice(1).join("/");
  const hash = createHash("sha256").update(canonical).digest("hex");
  const text = Buffer.from(`GOOG4-RSA-SHA256\n${date}\n${scope}\n${hash}`);
  return verify("RSA-SHA256", text, publicKey, Buffer.from(query.get("X-Goog-Signature") ?? "", "hex"));
}
