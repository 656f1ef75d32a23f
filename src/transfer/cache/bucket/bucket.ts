import { randomBytes } from "node:crypto";
import { open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { BucketConfig } from "../../../config/config.ts";
import type { Answer } from "../../../coordinator/exchange.ts";
import { first } from "../../../coordinator/retry-after.ts";
import { SystemFailure } from "../../../errors.ts";
import type { CachePlace, CacheStore } from "../cache-store.ts";
import { download } from "./download.ts";
import { type BucketRequest, createRequests, isMissing, type RequestOptions, TRIES } from "./requests.ts";
import { upload } from "./upload.ts";
import type { Way } from "./way.ts";

/** Tags of objects are much shorter. */
const LONGEST_TAG = 200;

export interface BucketOptions extends RequestOptions {
  /** 8 hex digits that stand for the runner's token. */
  readonly runnerId: string;
  /** What GitLab Runner has in its place; empty: that is not to be shown. */
  readonly shortToken: string;
  /** Private to the runner; archives lie here while they are made and moved. */
  readonly scratchDir: string;
  /** `null`: no limit. */
  readonly maxUploadBytes: number | null;
}

interface Placed {
  readonly object: string;
  /** What the names of all caches of the project begin with. */
  readonly under: string;
}

/**
 * Caches in a bucket. Objects appear whole or not at all, and the last writer wins: all kinds of buckets see to that.
 * @param openWay how this kind of bucket is asked; called when it is first needed
 */
export function openBucket(bucket: BucketConfig, openWay: () => Promise<Way>, options: BucketOptions): CacheStore {
  const { scratchDir, maxUploadBytes } = options;
  const requests = createRequests(bucket, openWay, options);

  const placed = ({ projectId, projectPath, key }: CachePlace, owner = options.runnerId): Placed => {
    const prefix = [...(bucket.prefix === "" ? [] : [bucket.prefix]), ...(bucket.shared ? [] : ["runner", owner])];
    const under = [...prefix, "project", projectId === "" ? projectPath : projectId, ""].join("/");
    return { object: `${under}${key}`, under };
  };
  /** Where GitLab Runner has kept the caches of this entry, which are only read. */
  const before = (place: CachePlace): Placed | null =>
    bucket.shared || options.shortToken === "" ? null : placed(place, options.shortToken);
  const scratch = (): string => join(scratchDir, `cache-${randomBytes(8).toString("hex")}`);

  /** One byte is asked for, because the answer to a HEAD has no body with the reason of a refusal. */
  const looking = (target: Placed): BucketRequest => ({
    ...target,
    method: "GET",
    unsigned: { range: "bytes=0-0" },
    headersOnly: true,
    what: "look into",
  });

  /** Servers change the tag with each change of the object; a weak one or none says nothing. */
  const versionOf = (object: string, answer: Answer): string | null => {
    const tag = first(answer.headers.etag) ?? "";
    if (isMissing(answer) || !tag.startsWith('"') || tag.length > LONGEST_TAG) return null;
    return JSON.stringify([bucket.name, object, tag, first(answer.headers["last-modified"])?.slice(0, 100)]);
  };

  /** What is at `place`, or else was left there by GitLab Runner; `null`: nothing. */
  const find = async <T>(place: CachePlace, at: (target: Placed) => Promise<T | null>): Promise<T | null> => {
    const own = await at(placed(place));
    const old = before(place);
    if (own !== null || old === null) return own;
    try {
      return await at(old);
    } catch (error) {
      // The login may be for what is this runner's own alone.
      if (error instanceof SystemFailure && !error.retry) return null;
      throw error;
    }
  };

  return {
    where: `in the bucket ${bucket.name}`,
    // The Go runner, which shares these, knows zip only.
    format: bucket.shared ? "zip" : "tarzstd",
    tries: TRIES,

    async fingerprint(place, signal) {
      const answer = await requests.call(looking(placed(place)), signal);
      const { fingerprintHeader } = await openWay();
      return isMissing(answer) ? null : (first(answer.headers[fingerprintHeader]) ?? null);
    },

    async version(place, signal) {
      const found = await find(place, async ({ object, under }) => {
        // Part of a restoration, which is tried again as a whole.
        const answer = await requests.once(looking({ object, under }), signal);
        return isMissing(answer) ? null : { answer, object };
      });
      return found === null ? null : versionOf(found.object, found.answer);
    },

    async open(place, onBytes, signal) {
      const path = scratch();
      try {
        const { checksumIn } = await openWay();
        const summed = checksumIn !== undefined;
        const found = await find(place, async (target) => {
          const downloaded = await download(requests, { path, ...target, summed }, onBytes, signal);
          return downloaded === null ? null : { ...downloaded, object: target.object };
        });
        if (found === null) {
          await rm(path, { force: true });
          return null;
        }
        const { bytes, answer, object, sum } = found;
        demandChecksum(sum, checksumIn?.(answer), object);
        const file = await open(path);
        const dispose = async (): Promise<void> => {
          await file.close();
          await rm(path, { force: true });
        };
        return { file, bytes, version: versionOf(object, answer), [Symbol.asyncDispose]: dispose };
      } catch (error) {
        await rm(path, { force: true });
        throw error;
      }
    },

    async put(place, { write }, onBytes, signal) {
      const path = scratch();
      try {
        const fingerprint = await write(path, signal, async () => {});
        const { size } = await stat(path);
        if (maxUploadBytes !== null && size > maxUploadBytes) {
          throw new SystemFailure(
            `its archive of ${size} bytes is larger than MaxUploadedArchiveSize (${maxUploadBytes})`,
          );
        }
        const archive = { path, size, fingerprint, key: place.shownKey ?? place.key, ...placed(place) };
        await upload(requests, await openWay(), archive, onBytes, signal);
        return { bytes: size };
      } finally {
        await rm(path, { force: true });
      }
    },
  };
}

/** @throws {SystemFailure} these are other bytes than those that were stored */
function demandChecksum(found: number | undefined, expected: number | undefined, object: string): void {
  if (expected === undefined || found === expected) return;
  throw new SystemFailure(`${object} came from the bucket with other bytes than were stored`, { retry: true });
}
