import type { CacheTable } from "../check/schema.ts";
import type { BucketConfig, CacheConfig, S3Bucket } from "../config.ts";
import { readAzure, readGcs } from "./cache-clouds.ts";

/** Tells of a key below `[runners.cache]` that cannot be used. */
type Warn = (path: readonly string[], text: string) => void;

/** `cache_max_size` where it is not set: without a limit, caches fill any disk in time. */
const LOCAL_BYTES = 20 * 2 ** 30;

const AWS = "s3.amazonaws.com";
const STAY_LOCAL = "Caches stay on this machine";

/**
 * `[runners.cache]` with the old flat keys and the newer `[runners.cache.s3]`, whose keys win. What cannot be used is a
 * warning: no job fails over a cache.
 */
export function readCache(table: CacheTable | undefined, maxSize: number | undefined, warn: Warn): CacheConfig {
  return {
    maxBytes: (maxSize ?? LOCAL_BYTES) || null,
    maxUploadBytes: table?.MaxUploadedArchiveSize || null,
    bucket: table === undefined ? null : readBucket(table, warn),
  };
}

function readBucket(table: CacheTable, warn: Warn): BucketConfig | null {
  const type = table.Type?.trim().toLowerCase() ?? "";
  if (type === "") return null;
  const prefix = (table.Path ?? "")
    .split("/")
    .filter((segment) => segment !== "" && segment !== "." && segment !== "..")
    .join("/");
  const common = { prefix, shared: table.Shared ?? false };
  if (type === "gcs" || type === "azure") {
    const found = type === "gcs" ? readGcs(table, common) : readAzure(table, common);
    if ("kind" in found) return found;
    warn(found.path, `${found.problem}. ${STAY_LOCAL}`);
    return null;
  }
  if (type !== "s3") {
    const known = `"s3", "gcs" and "azure" are`;
    warn(["Type"], `caches in ${JSON.stringify(type.slice(0, 40))} are not supported, ${known}. ${STAY_LOCAL}`);
    return null;
  }
  const s3 = table.s3 ?? {};
  const name = (s3.BucketName || table.BucketName || "").trim();
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) {
    const problem = name === "" ? "is missing" : "is not the name of a bucket";
    warn(table.s3 === undefined ? ["BucketName"] : ["s3", "BucketName"], `${problem}. ${STAY_LOCAL}`);
    return null;
  }
  const given = (s3.BucketLocation || table.BucketLocation || "").trim();
  const region = given || "us-east-1";
  const address = (s3.ServerAddress || table.ServerAddress || "").trim() || AWS;
  const endpoint = endpointOf(address, s3.Insecure ?? table.Insecure ?? false, region);
  if (endpoint === null) {
    const path = s3.ServerAddress ? ["s3", "ServerAddress"] : ["ServerAddress"];
    warn(path, `is not a host with an optional port, such as "minio.example.com:9000". ${STAY_LOCAL}`);
    return null;
  }
  const credentials = readCredentials(table);
  if (credentials === null) {
    warn(["s3", "AuthenticationType"], `"access-key" needs AccessKey and SecretKey. ${STAY_LOCAL}`);
    return null;
  }
  const algorithm = s3.ServerSideEncryption;
  return {
    kind: "s3",
    endpoint,
    name,
    region,
    regionGiven: given !== "",
    amazon:
      hostOf(address) === AWS ? { dualStack: s3.DualStack ?? true, accelerate: s3.Accelerate ?? false } : undefined,
    role: s3.RoleARN?.trim() || undefined,
    uploadRole: s3.UploadRoleARN?.trim() || undefined,
    pathStyle: s3.PathStyle ?? !isVirtualHost(endpoint, name),
    ...common,
    credentials,
    encryption: algorithm === undefined ? undefined : { algorithm, keyId: s3.ServerSideEncryptionKeyID || undefined },
  };
}

/** Keys that are not given at all mean those of the machine, as they did in the Go runner. */
function readCredentials(table: CacheTable): S3Bucket["credentials"] | null {
  const { AuthenticationType: type, SessionToken: sessionToken } = table.s3 ?? {};
  const accessKey = (table.s3?.AccessKey || table.AccessKey || "").trim();
  const secretKey = (table.s3?.SecretKey || table.SecretKey || "").trim();
  if (type === "iam") return { from: "iam" };
  if (accessKey !== "" && secretKey !== "") {
    return { from: "key", accessKey, secretKey, sessionToken: sessionToken?.trim() || undefined };
  }
  return type === "access-key" ? null : { from: "iam" };
}

function hostOf(address: string): string {
  return address.replace(/^https?:\/\//i, "").replace(/\/$/, "");
}

function endpointOf(address: string, insecure: boolean, region: string): URL | null {
  const [, scheme, rest = ""] = /^(?:(https?):\/\/)?(.*?)\/?$/i.exec(address) ?? [];
  if (rest === "" || /[/?#@\s]/.test(rest)) return null;
  // The global address answers for other regions with a redirect, which would need another signature.
  const host = rest === AWS && region !== "us-east-1" ? regionalHost(region) : rest;
  const protocol = insecure || scheme?.toLowerCase() === "http" ? "http" : "https";
  const text = `${protocol}://${host}`;
  return URL.canParse(text) ? new URL(text) : null;
}

function regionalHost(region: string): string {
  return `s3.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`;
}

/** Where the bucket's name can stand in the host's: at Amazon, and where no certificate is then for another name. */
function isVirtualHost({ hostname, protocol }: URL, bucket: string): boolean {
  if (!/(?:^|\.)amazonaws\.com(?:\.cn)?$/.test(hostname)) return false;
  return /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket) && !(protocol === "https:" && bucket.includes("."));
}
