import type { BucketConfig } from "../../../config/config.ts";
import type { Way, WayOptions } from "./way.ts";

/** The ways to the buckets of a configuration, kept with what they have learnt: logins, and where a bucket is. */
export type Ways = (bucket: BucketConfig, options: WayOptions) => Promise<Way>;

export function createWays(): Ways {
  const ways = new WeakMap<BucketConfig, Promise<Way>>();
  return (bucket, options) => {
    const found = ways.get(bucket) ?? openWay(bucket, options);
    ways.set(bucket, found);
    return found;
  };
}

/** Each kind is loaded when it is used. */
async function openWay(bucket: BucketConfig, options: WayOptions): Promise<Way> {
  switch (bucket.kind) {
    case "s3":
      return (await import("./s3.ts")).openS3(bucket, options);
    case "gcs":
      return (await import("./gcs.ts")).openGcs(bucket, options);
    case "azure":
      return (await import("./azure.ts")).openAzure(bucket, options);
  }
}
