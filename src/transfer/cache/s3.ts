import { randomBytes } from "node:crypto";
import { open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { BucketConfig } from "../../config/config.ts";
import type { Connections } from "../../coordinator/connection/connections.ts";
import { answerKind, mayPass, type Sink } from "../../coordinator/contract.ts";
import type { Answer, Body, Call } from "../../coordinator/exchange.ts";
import { first } from "../../coordinator/retry-after.ts";
import { describeBroken } from "../../coordinator/trouble.ts";
import { ConfigError, SystemFailure } from "../../errors.ts";
import { retry } from "../../time.ts";
import type { CachePlace, CacheStore, OnBytes, StoredCache } from "./cache-store.ts";
import { createSigner } from "./s3-sign.ts";

/** Stored with the object, so that a reader knows its content without reading it. */
const FINGERPRINT = "x-amz-meta-alloy-fingerprint";
const TRIES = 3;
const SILENCE_MS = 60_000;
/** The caller's signal is the limit. */
const LONGEST_MS = 24 * 3_600_000;
/** Largest object that S3 takes in one piece. */
const LARGEST_BYTES = 5 * 2 ** 30;
const PIECE_BYTES = 256 * 1024;
/** Tags of objects are much shorter. */
const LONGEST_TAG = 200;

export interface BucketOptions {
  readonly connections: Pick<Connections, "route">;
  /** Where `<host>.crt` of a bucket with a private certificate is looked for. */
  readonly certsDir: string;
  readonly userAgent: string;
  /** 8 hex digits that stand for the runner's token. */
  readonly runnerId: string;
  /** Private to the runner; archives lie here while they are made and moved. */
  readonly scratchDir: string;
  /** `null`: no limit. */
  readonly maxUploadBytes: number | null;
  /** How long a signed address is good for. */
  readonly lifeMs: number;
  /** Pause before the second try of a call; it grows with each try. 1 s outside of tests. */
  readonly retryPauseMs?: number;
}

/** An archive on this disk that becomes an object. */
interface Upload {
  readonly path: string;
  readonly size: number;
  readonly object: string;
  readonly fingerprint: string;
}

/** Caches in a bucket that speaks S3. Objects appear whole or not at all, and the last writer wins: S3 sees to that. */
export function openBucket(bucket: BucketConfig, options: BucketOptions): CacheStore {
  const { connections, certsDir, scratchDir, maxUploadBytes, lifeMs, retryPauseMs = 1000 } = options;
  const sign = createSigner(bucket);
  const tls = { tlsCaFile: undefined, tlsCertFile: undefined, tlsKeyFile: undefined, certsDir };

  interface Request {
    readonly method: "GET" | "PUT";
    readonly object: string;
    readonly signed?: Readonly<Record<string, string>>;
    readonly unsigned?: readonly string[];
    readonly body?: Body;
    readonly sink?: Sink;
    /** Whether only the headers count. */
    readonly headersOnly?: boolean;
    /** Purpose of the call, as the end of "cannot …". */
    readonly what: string;
  }

  const once = async (request: Request, signal: AbortSignal): Promise<Answer> => {
    const { method, object, signed = {}, unsigned = [], body, sink, headersOnly = false, what } = request;
    const url = await sign({ method, object, headers: signed, lifeMs }, signal);
    const failed = (reason: string, again: boolean, cause?: unknown): SystemFailure =>
      new SystemFailure(`cannot ${what} the bucket ${bucket.name} at ${url.host}: ${reason}`, { retry: again, cause });
    const call: Call = {
      method,
      path: `${url.pathname}${url.search}`,
      headers: ["user-agent", options.userAgent, ...Object.entries(signed).flat(), ...unsigned],
      body,
      idleMs: SILENCE_MS,
      totalMs: LONGEST_MS,
      answerBytes: 64 * 1024,
      ...(sink === undefined ? {} : { sink }),
    };
    const result = await connections
      .route(url, tls)
      .send(call, true, signal)
      .catch((error: unknown) => {
        if (error instanceof ConfigError) throw failed(error.message, false, error);
        throw error;
      });
    if (result.kind === "broken") throw failed(describeBroken(result.error, url.host), true, result.error);
    const { answer } = result;
    const kind = answerKind(answer.status);
    if (kind === "missing" && errorOf(answer).code !== "NoSuchBucket") return answer;
    // An empty object has no first byte to return.
    if (headersOnly && (kind === "fine" || kind === "mismatch")) return answer;
    if (kind !== "fine") throw failed(describeRefusal(answer, bucket), mayPass(kind));
    if (answer.cut !== undefined) throw failed(`the answer was cut: ${answer.cut}`, true);
    return answer;
  };
  const call = async (request: Request, signal: AbortSignal): Promise<Answer> =>
    await retry(
      { attempts: TRIES, firstMs: retryPauseMs, maxMs: retryPauseMs * 10 },
      () => once(request, signal),
      signal,
    );

  const objectOf = ({ projectId, projectPath, key }: CachePlace): string =>
    [
      ...(bucket.prefix === "" ? [] : [bucket.prefix]),
      ...(bucket.shared ? [] : ["runner", options.runnerId]),
      "project",
      projectId === "" ? projectPath : projectId,
      key,
    ].join("/");

  const scratch = (): string => join(scratchDir, `cache-${randomBytes(8).toString("hex")}`);

  return {
    where: `in the bucket ${bucket.name}`,
    // The Go runner, which shares these, knows zip only.
    format: bucket.shared ? "zip" : "tarzstd",
    tries: TRIES,

    async fingerprint(place, signal) {
      const answer = await lookAt(objectOf(place), signal);
      return isMissing(answer) ? null : (first(answer.headers[FINGERPRINT]) ?? null);
    },

    async version(place, signal) {
      const object = objectOf(place);
      return versionOf(object, await lookAt(object, signal));
    },

    async open(place, onBytes, signal) {
      const path = scratch();
      try {
        const downloaded = await download(path, objectOf(place), onBytes, signal);
        if (downloaded === null) {
          await rm(path, { force: true });
          return null;
        }
        const file = await open(path);
        const dispose = async (): Promise<void> => {
          await file.close();
          await rm(path, { force: true });
        };
        return { file, ...downloaded, [Symbol.asyncDispose]: dispose };
      } catch (error) {
        await rm(path, { force: true });
        throw error;
      }
    },

    async put(place, { write }, onBytes, signal) {
      const path = scratch();
      try {
        const fingerprint = await write(path, signal, async () => {});
        const { size } = await stat(path);
        if (maxUploadBytes !== null && size > maxUploadBytes) {
          throw new SystemFailure(
            `its archive of ${size} bytes is larger than MaxUploadedArchiveSize (${maxUploadBytes})`,
          );
        }
        if (size > LARGEST_BYTES) {
          throw new SystemFailure(
            `its archive of ${size} bytes is larger than the 5 GiB that a bucket takes in one piece`,
          );
        }
        await upload({ path, size, object: objectOf(place), fingerprint }, onBytes, signal);
        return { bytes: size };
      } finally {
        await rm(path, { force: true });
      }
    },
  };

  /** One byte is asked for, because the answer to a HEAD has no body with the reason of a refusal. */
  async function lookAt(object: string, signal: AbortSignal): Promise<Answer> {
    const unsigned = ["range", "bytes=0-0"];
    return await call({ method: "GET", object, unsigned, headersOnly: true, what: "look into" }, signal);
  }

  /** Servers change the tag with each change of the object; a weak one or none says nothing. */
  function versionOf(object: string, answer: Answer): string | null {
    const tag = first(answer.headers.etag) ?? "";
    if (isMissing(answer) || !tag.startsWith('"') || tag.length > LONGEST_TAG) return null;
    return JSON.stringify([bucket.name, object, tag, first(answer.headers["last-modified"])?.slice(0, 100)]);
  }

  /** @returns `null`: there is no such object */
  async function download(
    path: string,
    object: string,
    onBytes: OnBytes,
    signal: AbortSignal,
  ): Promise<Pick<StoredCache, "bytes" | "version"> | null> {
    const file = await open(path, "w", 0o600);
    try {
      let bytes = 0;
      const sink = async (piece: Uint8Array): Promise<void> => {
        for (let done = 0; done < piece.length; ) {
          done += (await file.write(piece, done, piece.length - done, bytes + done)).bytesWritten;
        }
        bytes += piece.length;
        onBytes(bytes, 0);
      };
      const answer = await once({ method: "GET", object, sink, what: "read from" }, signal);
      if (isMissing(answer)) return null;
      const expected = Number(first(answer.headers["content-length"]) ?? bytes);
      if (bytes === expected) return { bytes, version: versionOf(object, answer) };
      throw new SystemFailure(`only ${bytes} of ${expected} bytes came from the bucket ${bucket.name}`, {
        retry: true,
      });
    } finally {
      await file.close();
    }
  }

  async function upload(
    { path, size, object, fingerprint }: Upload,
    onBytes: OnBytes,
    signal: AbortSignal,
  ): Promise<void> {
    const file = await open(path, "r");
    try {
      async function* pieces(): AsyncGenerator<Uint8Array> {
        for (let at = 0; at < size; ) {
          const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(PIECE_BYTES), 0, PIECE_BYTES, at);
          if (bytesRead === 0) throw new Error("the archive became shorter while it was sent");
          at += bytesRead;
          onBytes(at, size);
          yield buffer.subarray(0, bytesRead);
        }
      }
      const { encryption } = bucket;
      const signed = {
        [FINGERPRINT]: fingerprint,
        ...(encryption === undefined ? {} : { "x-amz-server-side-encryption": encryption.algorithm }),
        ...(encryption?.keyId === undefined ? {} : { "x-amz-server-side-encryption-aws-kms-key-id": encryption.keyId }),
      };
      const body =
        size === 0
          ? { bytes: new Uint8Array() }
          : { length: size, open: () => Readable.from(pieces(), { objectMode: false }) };
      const unsigned = ["content-type", "application/octet-stream"];
      const answer = await call({ method: "PUT", object, signed, unsigned, body, what: "write to" }, signal);
      if (isMissing(answer)) throw new SystemFailure(`cannot write to the bucket ${bucket.name}: status 404`);
    } finally {
      await file.close();
    }
  }
}

function isMissing({ status }: Answer): boolean {
  return answerKind(status) === "missing";
}

/** `<Error><Code>…</Code><Message>…</Message></Error>` */
function errorOf({ body }: Answer): { readonly code: string; readonly message: string; readonly region: string } {
  const text = body.subarray(0, 16 * 1024).toString();
  const part = (name: string): string =>
    (new RegExp(`<${name}>([^<]{0,300})`).exec(text)?.[1] ?? "").replace(/[\s\x00-\x1f\x7f-\x9f]+/g, " ").trim();
  return { code: part("Code"), message: part("Message"), region: part("Region") };
}

/** The text never contains the address, which is a secret. */
function describeRefusal(answer: Answer, bucket: BucketConfig): string {
  const { code, message, region } = errorOf(answer);
  const elsewhere = first(answer.headers["x-amz-bucket-region"]) ?? region;
  const said = [`status ${answer.status}`, code, message].filter((part) => part !== "").join(", ");
  if (/^[a-z0-9-]{1,40}$/.test(elsewhere) && elsewhere !== bucket.region) {
    return `${said}; the bucket is in ${elsewhere}: set BucketLocation`;
  }
  return code === "AccessDenied" ? `${said}; S3 says so, too, when it may not tell that there is no such object` : said;
}
