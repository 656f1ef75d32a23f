import { awsDomain } from "../../../cloud/aws/domain.ts";
import type { S3Bucket } from "../../../config/config.ts";
import type { Answer } from "../../../coordinator/exchange.ts";
import { first } from "../../../coordinator/retry-after.ts";
import { createS3Keys, type S3KeyOptions } from "./s3-keys.ts";
import { encodeObject, partOf, type Way } from "./way.ts";

/** Longest life of a signed address that S3 grants. */
const LONGEST_SECONDS = 7 * 24 * 3600;

/** Amazon's buckets, and all that speak as they do. */
export function openS3(bucket: S3Bucket, options: S3KeyOptions): Way {
  const { endpoint, encryption } = bucket;
  const keys = createS3Keys(bucket, options);
  let { region } = bucket;

  const regionIn = (answer: Answer): string | undefined => {
    const elsewhere = first(answer.headers["x-amz-bucket-region"]) ?? partOf(answer, "Region");
    return /^[a-z0-9-]{1,40}$/.test(elsewhere) && elsewhere !== region ? elsewhere : undefined;
  };

  return {
    async admit({ method, object, under, query = {}, headers, lifeMs }, signal) {
      const { AwsV4Signer } = await import("aws4fetch");
      const { accessKeyId, secretAccessKey, sessionToken } = await keys({ method, under, region }, signal);
      const url = addressOf(bucket, region, object);
      for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
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
        region,
        signQuery: true,
      });
      return { url: (await signer.sign()).url, headers: {} };
    },
    fingerprintHeader: "x-amz-meta-alloy-fingerprint",
    keyHeader: "x-amz-meta-cachekey",
    createHeaders: {
      ...(encryption === undefined ? {} : { "x-amz-server-side-encryption": encryption.algorithm }),
      ...(encryption?.keyId === undefined ? {} : { "x-amz-server-side-encryption-aws-kms-key-id": encryption.keyId }),
    },
    wholeHeaders: {},
    pieces: "parts",
    bucketGone: ["NoSuchBucket"],
    codeOf: (answer) => partOf(answer, "Code"),
    learn(answer) {
      const found = bucket.regionGiven ? undefined : regionIn(answer);
      if (found === undefined) return false;
      region = found;
      return true;
    },
    advise(answer) {
      const elsewhere = regionIn(answer);
      if (elsewhere !== undefined) return `the bucket is in ${elsewhere}: set BucketLocation`;
      if (partOf(answer, "Code") !== "AccessDenied" || endpoint === undefined) return "";
      return "S3 says so, too, when it may not tell that there is no such object";
    },
  };
}

function addressOf({ endpoint, amazon, name, pathStyle }: S3Bucket, region: string, object: string): URL {
  const host = amazon === undefined ? endpoint.host : amazonHost(amazon, region);
  const path = encodeObject(object);
  return pathStyle
    ? new URL(`${endpoint.protocol}//${host}/${name}/${path}`)
    : new URL(`${endpoint.protocol}//${name}.${host}/${path}`);
}

/** The global address answers for other regions than its own with a redirect, which would need another signature. */
function amazonHost({ dualStack, accelerate }: NonNullable<S3Bucket["amazon"]>, region: string): string {
  const domain = awsDomain(region);
  if (accelerate) return `s3-accelerate${dualStack ? ".dualstack" : ""}.${domain}`;
  if (dualStack) return `s3.dualstack.${region}.${domain}`;
  return region === "us-east-1" ? `s3.${domain}` : `s3.${region}.${domain}`;
}
