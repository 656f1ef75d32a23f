import type { Coordinator } from "../coordinator/contract.ts";
import type { Environment } from "../executor/environment.ts";
import type { Dependency, Job, JobCredentials } from "../job/job.ts";
import type { Log } from "../log.ts";
import type { Trace } from "../trace/contract.ts";
import type { WorkspaceFiles } from "../workspace.ts";
import type { CacheFormat, CacheStore } from "./cache/cache-store.ts";
import type { KeptCaches } from "./cache/kept-caches.ts";

/** How hard to compress: `ARTIFACT_COMPRESSION_LEVEL`, `CACHE_COMPRESSION_LEVEL`. */
export const compressionLevels = ["fastest", "fast", "default", "slow", "slowest"] as const;
export type CompressionLevel = (typeof compressionLevels)[number];

/** One entry of a job's `artifacts`, its variables expanded. */
export interface ArtifactUpload {
  /** The name that the job gives; may be empty. */
  readonly name: string;
  readonly paths: readonly string[];
  readonly exclude: readonly string[];
  readonly untracked: boolean;
  readonly expireIn: string;
  /** `archive`, or the kind of a report. */
  readonly type: string;
  readonly format: "zip" | "gzip" | "raw";
  readonly level: CompressionLevel;
}

/** One entry of a job's `cache`, its variables expanded and its keys cleaned. */
export interface CacheTransfer {
  readonly projectPath: string;
  /** Empty where the coordinator did not say. */
  readonly projectId: string;
  readonly key: string;
  /** Tried in order when there is no cache of `key`. */
  readonly fallbacks: readonly string[];
  /** Stores have these keys by their hashes (`FF_HASH_CACHE_KEYS`). */
  readonly hashed?: true;
  readonly paths: readonly string[];
  readonly untracked: boolean;
  /** What had to be changed, one sentence each. */
  readonly warnings: readonly string[];
}

/** Files on their way between a job and the rest of the world. Plain data. */
export type Transfer =
  | {
      readonly what: "restore_cache";
      readonly caches: readonly CacheTransfer[];
      readonly attempts: number;
      /** Limit for each cache. */
      readonly timeoutMs: number;
    }
  | {
      readonly what: "archive_cache";
      readonly caches: readonly CacheTransfer[];
      readonly format: CacheFormat | null;
      readonly level: CompressionLevel;
      /** Limit for each cache. */
      readonly timeoutMs: number;
    }
  | {
      readonly what: "download_artifacts";
      readonly dependencies: readonly Dependency[];
      /** Least number of attempts for each download. */
      readonly attempts: number;
    }
  | { readonly what: "upload_artifacts"; readonly upload: ArtifactUpload };

/** What transfers are made with, the same for all of a job. */
export interface TransferMeans {
  readonly coordinator: Pick<Coordinator, "uploadArtifacts" | "downloadArtifacts">;
  /** Where the caches of the job's entry are kept. */
  readonly openCaches: () => Promise<CacheStore>;
  readonly keptCaches: KeptCaches;
  /** Private to the runner; archives lie here while they are made and moved. */
  readonly scratchDir: string;
  /** What disks must still have free afterwards: `min_free_disk`. */
  readonly minFreeBytes: () => number;
}

export interface TransferContext extends TransferMeans {
  readonly job: JobCredentials & Pick<Job, "dialect">;
  readonly files: WorkspaceFiles;
  /** What another runner has kept of a cache where the job is. */
  readonly formerCache?: Environment["formerCache"];
  readonly trace: Pick<Trace, "print">;
  readonly log: Log;
  /** Pause before the second try of a call; it grows with each try. */
  readonly retryPauseMs: number;
}
