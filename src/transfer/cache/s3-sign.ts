import type { BucketConfig } from "../../config/config.ts";
import { describeError, SystemFailure } from "../../errors.ts";

/** Longest life of a signed address that S3 grants. */
const LONGEST_SECONDS = 7 * 24 * 3600;
/** Credentials that expire sooner are asked for again. */
const SPARE_MS = 5 * 60_000;
const IAM_TIMEOUT_MS = 5000;

interface SignRequest {
  readonly method: "GET" | "PUT";
  /** The cleaned name of the object in the bucket. */
  readonly object: string;
  /** Headers that are part of the signature, lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** How long the address is good for: for this object and this method only. */
  readonly lifeMs: number;
}

/** @returns the address; it is a secret as long as it lives */
export type Sign = (request: SignRequest, signal: AbortSignal) => Promise<URL>;

interface Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly expiration?: Date;
}

/** @throws {SystemFailure} from each call: there are no credentials */
export function createSigner(bucket: BucketConfig): Sign {
  const keys = bucket.credentials.from === "iam" ? createIamKeys() : keysOf(bucket.credentials);
  return async ({ method, object, headers, lifeMs }, signal) => {
    const { AwsV4Signer } = await import("aws4fetch");
    const { accessKeyId, secretAccessKey, sessionToken } = await keys(signal);
    const url = addressOf(bucket, object);
    const seconds = Math.min(Math.max(Math.ceil(lifeMs / 1000), 1), LONGEST_SECONDS);
    url.searchParams.set("X-Amz-Expires", String(seconds));
    const signer = new AwsV4Signer({
      method,
      url: url.href,
      headers: { ...headers },
      accessKeyId,
      secretAccessKey,
      ...(sessionToken === undefined ? {} : { sessionToken }),
      service: "s3",
      region: bucket.region,
      signQuery: true,
    });
    return (await signer.sign()).url;
  };
}

/** Every character that is not plain is encoded: signers and servers disagree about the rest. */
function addressOf({ endpoint, name, pathStyle }: BucketConfig, object: string): URL {
  const path = object.split("/").map(encodeSegment).join("/");
  return pathStyle
    ? new URL(`${endpoint.origin}/${name}/${path}`)
    : new URL(`${endpoint.protocol}//${name}.${endpoint.host}/${path}`);
}

function encodeSegment(segment: string): string {
  return encodeURIComponent(segment).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function keysOf(given: {
  readonly accessKey: string;
  readonly secretKey: string;
  readonly sessionToken: string | undefined;
}): (signal: AbortSignal) => Promise<Keys> {
  const { accessKey, secretKey, sessionToken } = given;
  const keys = {
    accessKeyId: accessKey,
    secretAccessKey: secretKey,
    ...(sessionToken === undefined ? {} : { sessionToken }),
  };
  return async () => keys;
}

/** Credentials that the cloud gives to this container (ECS, EKS pod identity) or machine (EC2). */
function createIamKeys(): (signal: AbortSignal) => Promise<Keys> {
  let last: Keys | undefined;
  const ask = async (): Promise<Keys> => {
    // Loaded when it is needed: most machines have keys in their configuration.
    const { askForInstanceKeys } = await import("./instance-keys.ts");
    return await askForInstanceKeys(IAM_TIMEOUT_MS);
  };
  return async (signal) => {
    const until = last?.expiration?.getTime();
    if (last !== undefined && (until === undefined || until - Date.now() > SPARE_MS)) return last;
    try {
      last = await within(ask(), signal);
      return last;
    } catch (cause) {
      signal.throwIfAborted();
      throw new SystemFailure(
        `this machine has no credentials for the bucket (${describeError(cause)}); set AccessKey and SecretKey in [runners.cache.s3], or give the machine a role`,
        { cause },
      );
    }
  };
}

/** The library takes no signals; its calls end by their own limits. */
function within<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
