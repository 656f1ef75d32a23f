import type { EntryFlag } from "../../executor-words.ts";

/** The Go runner's flags for `[runners.cache]`, by the names of its newer and older releases. */
export const cacheFlags: readonly EntryFlag[] = [
  { flag: "cache-type", env: "CACHE_TYPE", key: "cache.Type", kind: "text", help: "s3: keep caches in a bucket, too" },
  {
    flag: "cache-max_uploaded_archive_size",
    env: "CACHE_MAXIMUM_UPLOADED_ARCHIVE_SIZE",
    key: "cache.MaxUploadedArchiveSize",
    kind: "integer",
    help: "larger archives are not uploaded, bytes; 0: no limit",
  },
  {
    flag: "cache-s3-cache-path",
    env: "S3_CACHE_PATH",
    key: "cache.Path",
    kind: "text",
    help: "what the names of caches in the bucket begin with",
  },
  { flag: "cache-path", env: "CACHE_PATH", key: "cache.Path", kind: "text", help: "the same" },
  {
    flag: "cache-cache-shared",
    env: "CACHE_SHARED",
    key: "cache.Shared",
    kind: "boolean",
    help: "share the bucket's caches with other runners of the same projects",
  },
  { flag: "cache-shared", key: "cache.Shared", kind: "boolean", help: "the same" },
  {
    flag: "cache-s3-server-address",
    env: "S3_SERVER_ADDRESS",
    key: "cache.s3.ServerAddress",
    kind: "text",
    help: "host[:port] of the S3 server",
  },
  {
    flag: "cache-s3-access-key",
    env: "S3_ACCESS_KEY",
    key: "cache.s3.AccessKey",
    kind: "text",
    help: "access key of the bucket",
  },
  {
    flag: "cache-s3-secret-key",
    env: "S3_SECRET_KEY",
    key: "cache.s3.SecretKey",
    kind: "text",
    help: "its secret; better given by environment",
  },
  {
    flag: "cache-s3-bucket-name",
    env: "S3_BUCKET_NAME",
    key: "cache.s3.BucketName",
    kind: "text",
    help: "name of the bucket",
  },
  {
    flag: "cache-s3-bucket-location",
    env: "S3_BUCKET_LOCATION",
    key: "cache.s3.BucketLocation",
    kind: "text",
    help: "region of the bucket",
  },
  {
    flag: "cache-s3-insecure",
    env: "S3_CACHE_INSECURE",
    key: "cache.s3.Insecure",
    kind: "boolean",
    help: "plain HTTP",
  },
  {
    flag: "cache-s3-authentication-type",
    env: "CACHE_S3_AUTHENTICATION_TYPE",
    key: "cache.s3.AuthenticationType",
    kind: "text",
    help: "access-key, or iam for the credentials of this machine",
  },
];
