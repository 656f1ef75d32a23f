import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { attributeOf, entryKeys } from "../../src/commands/register/runner-flags.ts";
import type { BucketConfig, CacheConfig, S3Bucket } from "../../src/config/config.ts";
import { appendEntry } from "../../src/config/file/edit.ts";
import { read } from "./support.ts";

const ENTRY = `[[runners]]\nname = "a"\nurl = "https://ci.example.com"\ntoken = "secret-token"\nexecutor = "shell"\n`;

async function cacheOf(tables: string): Promise<{ cache: CacheConfig; warnings: readonly string[] }> {
  const { runners, warnings } = await read(ENTRY + tables);
  const [runner] = runners;
  if (runner === undefined) throw new Error("there is no entry");
  return { cache: runner.cache, warnings };
}

async function anyBucketOf(tables: string): Promise<BucketConfig> {
  const { cache, warnings } = await cacheOf(tables);
  expect(warnings).toEqual([]);
  if (cache.bucket === null) throw new Error("there is no bucket");
  return cache.bucket;
}

async function bucketOf(tables: string): Promise<S3Bucket> {
  const bucket = await anyBucketOf(tables);
  if (bucket.kind !== "s3") throw new Error("it is of another kind");
  return bucket;
}

describe("buckets", () => {
  test("the flat keys of the Go runner mean what they meant", async () => {
    const bucket = await bucketOf(`[runners.cache]
      Type = "s3"
      ServerAddress = "minio.example.com:9000"
      AccessKey = "ak"
      SecretKey = "sk"
      BucketName = "caches"
      BucketLocation = "eu-west-1"
      Insecure = true
      Path = "/ci//x/../"
      Shared = true`);
    expect(bucket).toEqual({
      kind: "s3",
      endpoint: new URL("http://minio.example.com:9000"),
      amazon: undefined,
      regionGiven: true,
      role: undefined,
      uploadRole: undefined,
      name: "caches",
      region: "eu-west-1",
      pathStyle: true,
      prefix: "ci/x",
      shared: true,
      credentials: { from: "key", accessKey: "ak", secretKey: "sk", sessionToken: undefined },
      encryption: undefined,
    });
  });

  test("the nested keys win over the flat ones", async () => {
    const bucket = await bucketOf(`[runners.cache]
      Type = "s3"
      BucketName = "old"
      MaxUploadedArchiveSize = 5
      [runners.cache.s3]
      BucketName = "new"
      AccessKey = "ak"
      SecretKey = "sk"
      SessionToken = "st"
      ServerSideEncryption = "KMS"
      ServerSideEncryptionKeyID = "id"`);
    expect(bucket.name).toBe("new");
    expect(bucket.credentials).toMatchObject({ from: "key", sessionToken: "st" });
    expect(bucket.encryption).toEqual({ algorithm: "aws:kms", keyId: "id" });
  });

  test.each([
    ["", "https://s3.amazonaws.com/", false],
    ['BucketLocation = "eu-west-1"', "https://s3.eu-west-1.amazonaws.com/", false],
    ['BucketLocation = "cn-north-1"', "https://s3.cn-north-1.amazonaws.com.cn/", false],
    ['ServerAddress = "s3.eu-west-3.amazonaws.com"', "https://s3.eu-west-3.amazonaws.com/", false],
    ['ServerAddress = "s3.amazonaws.com"\nPathStyle = true', "https://s3.amazonaws.com/", true],
    ['ServerAddress = "storage.example.com"\nPathStyle = false', "https://storage.example.com/", false],
    ['ServerAddress = "http://[::1]:9000/"', "http://[::1]:9000/", true],
    ['BucketName = "with.dots"', "https://s3.amazonaws.com/", true],
    ["DualStack = true\nAccelerate = true", "https://s3.amazonaws.com/", false],
  ])("%s: where the bucket is", async (keys, endpoint, pathStyle) => {
    const bucket = await bucketOf(`[runners.cache]\nType = "s3"\nBucketName = "b-1"\n[runners.cache.s3]\n${keys}`);
    expect(bucket.endpoint.href).toBe(endpoint);
    expect(bucket.pathStyle).toBe(pathStyle);
    expect(bucket.credentials).toEqual({ from: "iam" });
  });

  test("hosts with IPv6 are Amazon's unless the entry says otherwise", async () => {
    const text = (keys: string) => `[runners.cache]\nType = "s3"\nBucketName = "b-1"\n[runners.cache.s3]\n${keys}`;
    expect((await bucketOf(text(""))).amazon).toEqual({ dualStack: true, accelerate: false });
    expect((await bucketOf(text("DualStack = false"))).amazon).toEqual({ dualStack: false, accelerate: false });
  });

  test.each([
    ['Type = "swift"', /Type .*"swift" are not supported.*stay on this machine/],
    ['Type = "gcs"', /gcs.BucketName .*is missing/],
    ['Type = "gcs"\n[runners.cache.gcs]\nBucketName = "b"\nAccessID = "a"', /gcs.PrivateKey .*is missing/],
    ['Type = "azure"\n[runners.cache.azure]\nContainerName = "c"', /azure.AccountName .*is missing/],
    [
      'Type = "azure"\n[runners.cache.azure]\nContainerName = "c"\nAccountName = "a"\nAccountKey = "?"',
      /AccountKey .*not base64/,
    ],
    ['Type = "s3"', /BucketName .*is missing/],
    ['Type = "s3"\nBucketName = "a/b"', /BucketName .*not the name of a bucket/],
    ['Type = "s3"\nBucketName = "b"\nServerAddress = "host/path"', /ServerAddress .*not a host/],
    ['Type = "s3"\nBucketName = "b"\n[runners.cache.s3]\nAuthenticationType = "access-key"', /needs AccessKey/],
  ])("%s is a warning, and caches stay local", async (keys, expected) => {
    const { cache, warnings } = await cacheOf(`[runners.cache]\n${keys}`);
    expect(cache.bucket).toBeNull();
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(expected);
  });

  test("without a type, as the Go runner writes the table, there is none", async () => {
    const { cache, warnings } = await cacheOf("[runners.cache]\n");
    expect(warnings).toEqual([]);
    expect(cache).toEqual({ maxBytes: 20 * 2 ** 30, maxUploadBytes: null, bucket: null });
  });
});

test("cache_max_size is a size, and 0 is none", async () => {
  expect((await cacheOf('cache_max_size = "20GiB"')).cache.maxBytes).toBe(20 * 2 ** 30);
  expect((await cacheOf("cache_max_size = 0")).cache.maxBytes).toBeNull();
  expect((await cacheOf("")).cache.maxBytes).toBe(20 * 2 ** 30);
});

test("the bucket of the example is sound", async () => {
  const example = await readFile(new URL("../../config.example.toml", import.meta.url), "utf8");
  const start = example.indexOf("# [runners.cache]");
  const table = example.slice(start).replace(/^( *)# ?( *(?:\w+ = |\[))/gm, "$1$2");
  const bucket = await bucketOf(table.slice(table.indexOf("[")));
  expect(bucket.name).toBe("caches");
  expect(bucket.encryption?.algorithm).toBe("AES256");
});

test("buckets of Google and Azure are read with what lets somebody in", async () => {
  const gcs = '[runners.cache]\nType = "gcs"\nPath = "ci"\n[runners.cache.gcs]\nBucketName = "b"\n';
  const common = { kind: "gcs", name: "b", prefix: "ci", shared: false, domain: "googleapis.com" };
  expect(await anyBucketOf(gcs)).toEqual({ ...common, credentials: { from: "login", file: undefined } });
  expect(await anyBucketOf(`${gcs}CredentialsFile = "/k.json"\nAccessID = "a"`)).toMatchObject({
    credentials: { from: "login", file: "/k.json" },
  });
  expect(
    await anyBucketOf(`${gcs}AccessID = "a@b"\nPrivateKey = 'one\\ntwo'\nUniverseDomain = "u.example"`),
  ).toMatchObject({
    domain: "u.example",
    credentials: { from: "key", email: "a@b", privateKey: "one\ntwo" },
  });
  const azure =
    '[runners.cache]\nType = "Azure"\nShared = true\n[runners.cache.azure]\nAccountName = "acc"\nContainerName = "c"\n';
  expect(await anyBucketOf(`${azure}AccountKey = "a2V5"\nStorageDomain = "blob.core.chinacloudapi.cn"`)).toEqual({
    kind: "azure",
    name: "c",
    prefix: "",
    shared: true,
    endpoint: new URL("https://acc.blob.core.chinacloudapi.cn"),
    account: "acc",
    accountKey: "a2V5",
  });
});

test("the flags of register make the same bucket", async () => {
  const flags = {
    "cache-type": "s3",
    "cache-s3-server-address": "minio.example.com",
    "cache-s3-access-key": "ak",
    "cache-s3-secret-key": "sk",
    "cache-s3-bucket-name": "caches",
    "cache-s3-cache-path": "ci",
    "cache-cache-shared": true,
    "cache-s3-insecure": "true",
  };
  const values = Object.fromEntries(Object.entries(flags).map(([flag, value]) => [attributeOf(flag), value]));
  const text = appendEntry("", {
    name: "a",
    url: "https://ci.example.com",
    token: "secret-token",
    executor: "shell",
    ...entryKeys(values, []),
  });
  const { runners, warnings } = await read(text);
  expect(warnings).toEqual([]);
  expect(runners[0]?.cache.bucket).toMatchObject({ name: "caches", prefix: "ci", shared: true, pathStyle: true });
  expect(runners[0]?.cache.bucket).toMatchObject({ endpoint: new URL("http://minio.example.com/") });
});
