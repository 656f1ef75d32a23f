import { expect, test } from "vitest";
import type { S3Bucket } from "../../src/config/config.ts";
import { createMetrics } from "../../src/metrics/metrics.ts";
import { never } from "../../src/time.ts";
import { openS3 } from "../../src/transfer/cache/bucket/s3.ts";

const meter = createMetrics({ version: "test" }).cloud;
const bucket: S3Bucket = {
  kind: "s3",
  endpoint: new URL("https://s3.amazonaws.com"),
  name: "caches",
  region: "eu-west-1",
  regionGiven: true,
  amazon: { dualStack: false, accelerate: false },
  pathStyle: false,
  prefix: "",
  shared: false,
  credentials: { from: "key", accessKey: "AKIA", secretKey: "s", sessionToken: undefined },
  role: undefined,
  uploadRole: undefined,
  encryption: undefined,
};

test.each([
  [{}, "caches.s3.eu-west-1.amazonaws.com"],
  [{ region: "us-east-1" }, "caches.s3.amazonaws.com"],
  [{ region: "cn-north-1" }, "caches.s3.cn-north-1.amazonaws.com.cn"],
  [{ amazon: { dualStack: true, accelerate: false } }, "caches.s3.dualstack.eu-west-1.amazonaws.com"],
  [{ amazon: { dualStack: false, accelerate: true } }, "caches.s3-accelerate.amazonaws.com"],
  [{ amazon: { dualStack: true, accelerate: true } }, "caches.s3-accelerate.dualstack.amazonaws.com"],
  [{ amazon: undefined, endpoint: new URL("https://minio.example.com:9000") }, "caches.minio.example.com:9000"],
])("with %j requests go to %s", async (more, host) => {
  const way = openS3(
    { ...bucket, ...more },
    { ask: () => Promise.reject(new Error("nothing is asked")), environment: {}, meter },
  );
  const request = { method: "GET", object: "a b/ü", under: "a b/", headers: {}, lifeMs: 60_000 } as const;
  const { url } = await way.admit(request, never);
  expect(url.host).toBe(host);
  expect(url.pathname).toBe("/a%20b/%C3%BC");
  expect(url.searchParams.get("X-Amz-Signature")).toMatch(/^[0-9a-f]{64}$/);
});
