import type { Ask } from "../../../cloud/ask.ts";
import type { BucketConfig } from "../../../config/config.ts";
import type { Way } from "./way.ts";

export interface WayOptions {
  readonly ask: Ask;
  /** Of the runner's process. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

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
  const { openS3 } = await import("./s3.ts");
  return openS3(bucket, options);
}
