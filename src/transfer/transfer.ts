import type { Coordinator } from "../coordinator/contract.ts";
import type { Dependency, Job, JobCredentials } from "../job/job.ts";
import type { Trace } from "../trace/contract.ts";
import type { WorkspaceFiles } from "../workspace.ts";

/** How hard to compress: `ARTIFACT_COMPRESSION_LEVEL`, `CACHE_COMPRESSION_LEVEL`. */
export const compressionLevels = ["fastest", "fast", "default", "slow", "slowest"] as const;
export type CompressionLevel = (typeof compressionLevels)[number];

/** One entry of a job's `artifacts`, its variables expanded. */
export interface ArtifactUpload {
  /** As the job names it; may be empty. */
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

/** Files on their way between a job and the rest of the world. Plain data. */
export type Transfer =
  | { readonly what: "download_artifacts"; readonly dependencies: readonly Dependency[] }
  | { readonly what: "upload_artifacts"; readonly upload: ArtifactUpload };

/** What transfers are made with, the same for all of a job. */
export interface TransferMeans {
  readonly coordinator: Pick<Coordinator, "uploadArtifacts" | "downloadArtifacts">;
  /** Private to the runner; archives lie here while they are made and moved. */
  readonly scratchDir: string;
  /** What disks must still have free afterwards: `min_free_disk`. */
  readonly minFreeBytes: () => number;
}

export interface TransferContext extends TransferMeans {
  readonly job: JobCredentials & Pick<Job, "dialect">;
  readonly files: WorkspaceFiles;
  readonly trace: Pick<Trace, "print">;
  /** Before the second try of a call; it grows. */
  readonly retryPauseMs: number;
}
