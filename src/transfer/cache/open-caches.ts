import { stat } from "node:fs/promises";
import type { CloudMeter } from "../../cloud/meter.ts";
import type { RunnerConfig } from "../../config/config.ts";
import type { Connections } from "../../coordinator/connection/connections.ts";
import type { Log } from "../../log.ts";
import type { Ways } from "./bucket/ways.ts";
import { type CacheDirs, chooseCacheDir } from "./cache-dir.ts";
import { evictCaches } from "./cache-eviction.ts";
import { openLocalCaches } from "./cache-local.ts";
import type { CacheStore } from "./cache-store.ts";

/** What an entry says of its caches, and of itself. */
type CacheEntry = Pick<RunnerConfig, "id" | "shortToken" | "url" | "cache" | "cacheDir" | "certsDir">;

export interface CachesOptions {
  readonly connections: Pick<Connections, "route" | "addressesOf">;
  /** Past any proxy: to what a cloud has beside its machines. */
  readonly nearby: Pick<Connections, "route" | "addressesOf">;
  readonly userAgent: string;
  /** Of the runner's process: logins to clouds may stand there. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
  /** Only the runner can write there; caches are kept in it where `cache_dir` is not safe. */
  readonly fallbackDir: string;
  /** Private to the runner, for archives under way. */
  readonly scratchDir: string;
  /** Jobs run as another user than the runner, which is root then. */
  readonly otherUser: () => boolean;
  /** How much must stay free on the disk. */
  readonly minFreeBytes: () => number;
  readonly meter: CloudMeter;
  readonly log: Log;
}

/** @param lifeMs time that the job has, as addresses that are signed for it shall not outlive it */
export type OpenCaches = (entry: CacheEntry, lifeMs: number) => Promise<CacheStore>;

export interface Caches {
  /** Where the caches of an entry are: in its bucket, else in its directory. */
  readonly open: OpenCaches;
  /**
   * Remove local caches of these entries, those that were not used for longest first, until the disk of `path` has so much free.
   * @returns bytes of what was removed
   */
  makeRoom(entries: readonly CacheEntry[], path: string, freeBytes: number): Promise<number>;
}

export function createCaches(options: CachesOptions): Caches {
  const { connections, userAgent, workingDirectory, fallbackDir, scratchDir, otherUser, minFreeBytes, log } = options;
  const { environment, nearby, meter } = options;
  const told = new Set<string>();
  let ways: Promise<Ways> | undefined;
  const dirsOf = async ({ cacheDir }: CacheEntry, guarded: boolean): Promise<CacheDirs> =>
    await chooseCacheDir({ configured: cacheDir, workingDirectory, fallback: fallbackDir, otherUser: guarded });

  const open: OpenCaches = async (entry, lifeMs) => {
    const { id, shortToken, url, cache, certsDir } = entry;
    const { bucket, maxUploadBytes, maxBytes } = cache;
    if (bucket !== null) {
      const [{ openBucket }, { createAsk }] = await Promise.all([
        import("./bucket/bucket.ts"),
        import("../../cloud/ask.ts"),
      ]);
      ways ??= import("./bucket/ways.ts").then(({ createWays }) => createWays());
      const kept = await ways;
      const outside = { userAgent, certsDir, tlsCaFile: undefined };
      const ask = createAsk({ ...outside, connections });
      const askNearby = createAsk({ ...outside, connections: nearby });
      return openBucket(bucket, () => kept(bucket, { ask, askNearby, environment, meter }), {
        connections,
        certsDir,
        userAgent,
        runnerId: id,
        shortToken,
        scratchDir,
        maxUploadBytes,
        lifeMs,
      });
    }
    const guarded = otherUser();
    const { dir, oldDir, reason } = await dirsOf(entry, guarded);
    if (reason !== undefined && !told.has(reason)) {
      told.add(reason);
      log.info(`cache_dir is not written to: ${reason}`, { runner: id });
    }
    const coordinator = `${url.host}${url.pathname.replace(/\/+$/, "")}`;
    return openLocalCaches({ dir, oldDir, coordinator, maxBytes, guarded, minFreeBytes });
  };

  return {
    open,
    async makeRoom(entries, path, freeBytes) {
      const guarded = otherUser();
      const dirs = new Set([fallbackDir]);
      for (const entry of entries) if (entry.cache.bucket === null) dirs.add((await dirsOf(entry, guarded)).dir);
      const { dev } = await stat(path);
      let removed = 0;
      for (const dir of dirs) {
        if ((await stat(dir).catch(() => null))?.dev !== dev) continue;
        const own = dir === fallbackDir ? { writersSince: performance.timeOrigin } : {};
        removed += await evictCaches({ dir, maxBytes: null, freeBytes, keep: null, guarded, ...own });
      }
      return removed;
    },
  };
}
