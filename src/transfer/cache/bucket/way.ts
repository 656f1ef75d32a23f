import type { Ask } from "../../../cloud/ask.ts";
import type { CloudMeter } from "../../../cloud/meter.ts";
import type { Answer } from "../../../coordinator/exchange.ts";

/** What logins are asked for with. */
export interface WayOptions {
  readonly ask: Ask;
  /** The same for hosts of this machine's own network, which no proxy reaches. */
  readonly askNearby: Ask;
  readonly meter: CloudMeter;
  /** Of the runner's process. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** One request on an object, before it has an address. */
export interface ObjectRequest {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  /** The cleaned name of the object in the bucket. */
  readonly object: string;
  /** What the names of all caches of the project begin with. */
  readonly under: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Lower case; they may become part of the signature. */
  readonly headers: Readonly<Record<string, string>>;
  /** How long an address is good for: for this object and this method only. */
  readonly lifeMs: number;
}

/** Where a request goes, and what lets it in; both are secrets. */
export interface Admitted {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
}

/** What differs between one kind of bucket and another. */
export interface Way {
  /** @throws {SystemFailure} there are no credentials */
  admit(request: ObjectRequest, signal: AbortSignal): Promise<Admitted>;
  /** Stored with an object, so that a reader knows its content without reading it. */
  readonly fingerprintHeader: string;
  /** Stored with an object: the cache's key as people know it, as GitLab Runner does. */
  readonly keyHeader: string;
  /** Of the request that makes an object, besides its fingerprint. */
  readonly createHeaders: Readonly<Record<string, string>>;
  /** Of that request where the whole object goes with it. */
  readonly wholeHeaders: Readonly<Record<string, string>>;
  /** How large objects are made of pieces. */
  readonly pieces: "parts" | "blocks";
  /** The name of a refusal: `NoSuchBucket`. */
  codeOf(answer: Answer): string;
  /** Codes of a 404 that is not about the object. */
  readonly bucketGone: readonly string[];
  /** Whether the answer says how to do better: then the request is made once more. */
  learn(answer: Answer): boolean;
  /** CRC-32C of the whole object, where the answer says it. */
  checksumIn?(answer: Answer): number | undefined;
  /** What is to be done about a refusal; empty: nobody knows. */
  advise(answer: Answer): string;
}

/** Every character that is not plain is encoded: signers and servers disagree about the rest. */
export function encodeObject(object: string): string {
  return object
    .split("/")
    .map((segment) =>
      encodeURIComponent(segment).replace(
        /[!'()*]/g,
        (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
      ),
    )
    .join("/");
}

/** `<Error><Code>…</Code><Message>…</Message></Error>` */
export function partOf({ body }: Answer, name: string): string {
  const text = body.subarray(0, 16 * 1024).toString();
  return (new RegExp(`<${name}>([^<]{0,2000})`).exec(text)?.[1] ?? "").replace(/[\s\x00-\x1f\x7f-\x9f]+/g, " ").trim();
}
