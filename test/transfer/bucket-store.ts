import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { createAsk } from "../../src/cloud/ask.ts";
import type { BucketConfig, S3Bucket } from "../../src/config/config.ts";
import { type Connections, createConnections } from "../../src/coordinator/connection/connections.ts";
import { createMetrics, type Metrics } from "../../src/metrics/metrics.ts";
import { type BucketOptions, openBucket } from "../../src/transfer/cache/bucket/bucket.ts";
import { createWays } from "../../src/transfer/cache/bucket/ways.ts";
import type { CacheStore } from "../../src/transfer/cache/cache-store.ts";
import { ACCESS_KEY, SECRET_KEY } from "./s3-server.ts";

export interface BucketStand {
  readonly store: CacheStore;
  readonly scratchDir: string;
  readonly metrics: Metrics;
}

interface Around extends Partial<BucketOptions> {
  readonly connections?: Connections;
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

/** Caches in a bucket of any kind; all is let go with the test. */
export function openStore(bucket: BucketConfig, around: Around = {}): BucketStand {
  const scratchDir = mkdtempSync(join(tmpdir(), "alloy-bucket-scratch-"));
  const connections = around.connections ?? createConnections();
  const { environment = process.env, certsDir = scratchDir } = around;
  onTestFinished(async () => {
    await connections.close();
    await nearby.close();
    await rm(scratchDir, { recursive: true, force: true });
  });
  const userAgent = "alloy-runner test";
  const outside = { userAgent, tlsCaFile: undefined, certsDir };
  const ask = createAsk({ ...outside, connections });
  const nearby = createConnections();
  const askNearby = createAsk({ ...outside, connections: nearby });
  const ways = createWays();
  const metrics = createMetrics({ version: "test" });
  const store = openBucket(bucket, () => ways(bucket, { ask, askNearby, environment, meter: metrics.cloud }), {
    connections,
    certsDir,
    userAgent,
    runnerId: "7e3b05c2",
    shortToken: "",
    scratchDir,
    maxUploadBytes: null,
    lifeMs: 3_600_000,
    retryPauseMs: 5,
    ...around,
  });
  return { store, scratchDir, metrics };
}

export function openBucketStore(endpoint: URL, bucket: Partial<S3Bucket> = {}, around: Around = {}): BucketStand {
  return openStore(
    {
      kind: "s3",
      endpoint,
      name: "caches",
      region: "us-east-1",
      regionGiven: true,
      amazon: undefined,
      pathStyle: true,
      prefix: "ci",
      shared: false,
      credentials: { from: "key", accessKey: ACCESS_KEY, secretKey: SECRET_KEY, sessionToken: undefined },
      role: undefined,
      uploadRole: undefined,
      encryption: undefined,
      ...bucket,
    },
    around,
  );
}
