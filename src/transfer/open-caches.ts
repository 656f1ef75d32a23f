import type { RunnerConfig } from "../config/config.ts";
import type { Connections } from "../coordinator/connections.ts";
import type { Log } from "../log.ts";
import { chooseCacheDir } from "./cache-dir.ts";
import { openLocalCaches } from "./cache-local.ts";
import type { CacheStore } from "./cache-store.ts";
import { openBucket } from "./s3.ts";

/** What an entry says of its caches, and of itself. */
export type CacheEntry = Pick<RunnerConfig, "id" | "url" | "cache" | "cacheDir" | "certsDir">;

export interface CachesOptions {
  readonly connections: Pick<Connections, "route">;
  readonly userAgent: string;
  readonly workingDirectory: string;
  /** Only the runner can write there; caches are kept in it where `cache_dir` is not safe. */
  readonly fallbackDir: string;
  /** Private to the runner, for archives under way. */
  readonly scratchDir: string;
  /** Jobs run as another user than the runner, which is root then. */
  readonly otherUser: () => boolean;
  readonly log: Log;
}

/** @param lifeMs time that the job has, as addresses that are signed for it shall not outlive it */
export type OpenCaches = (entry: CacheEntry, lifeMs: number) => Promise<CacheStore>;

/** Where the caches of an entry are: in its bucket, else in its directory. */
export function createCaches(options: CachesOptions): OpenCaches {
  const { connections, userAgent, workingDirectory, fallbackDir, scratchDir, otherUser, log } = options;
  const told = new Set<string>();
  return async ({ id, url, cache, cacheDir, certsDir }, lifeMs) => {
    const { bucket, maxUploadBytes, maxBytes } = cache;
    if (bucket !== null) {
      return openBucket(bucket, {
        connections,
        certsDir,
        userAgent,
        runnerId: id,
        scratchDir,
        maxUploadBytes,
        lifeMs,
      });
    }
    const guarded = otherUser();
    const { dir, oldDir, reason } = await chooseCacheDir({
      configured: cacheDir,
      workingDirectory,
      fallback: fallbackDir,
      otherUser: guarded,
    });
    if (reason !== undefined && !told.has(reason)) {
      told.add(reason);
      log.info(`cache_dir is not written to: ${reason}`, { runner: id });
    }
    const coordinator = `${url.host}${url.pathname.replace(/\/+$/, "")}`;
    return openLocalCaches({ dir, oldDir, coordinator, maxBytes, guarded });
  };
}
