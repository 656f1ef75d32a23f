import type { QueuingLimit } from "../config/config.ts";
import type { MadeRequest } from "../coordinator/contract.ts";
import type { ExecutorMeter } from "../executor/deps.ts";
import type { Job, JobProgress } from "../job/job.ts";

/** What one job reports about itself. */
interface JobMeter {
  moved(progress: JobProgress): void;
  /** Bytes that its trace grew by. */
  traced(bytes: number): void;
}

/** What one `[[runners]]` entry reports about itself. */
export interface EntryMeter {
  /** An API call ended. Fits the coordinator's `onRequest`. */
  request(request: MadeRequest): void;
  /** A job request begins (1) or ends (-1). */
  asking(change: 1 | -1): void;
  /** So many requests of it may be under way at once now; `request_concurrency` is what they grow to. */
  lanes(count: number): void;
  /** It waits, as so many requests are under way. */
  crowded(): void;
  /** Its executor had no room for one more job. */
  full(): void;
  /** It could not have run a job, and so asked for none. `reason` is one of a few words. */
  refusedAdmission(reason: string): void;
  /** The coordinator did not accept the token. */
  refused(): void;
  /** Whether the entry is asked for at its usual pace. */
  healthy(is: boolean): void;
  /**
   * @param told `stages`: unless it is false, how long each of the job's stages took is told, too; `ageMs`: of a job that
   *   an earlier process has received, and counted, since when it runs
   */
  job(
    received: Pick<Job, "queuedSeconds" | "queueSize" | "queueDepth" | "projectJobsRunning" | "filledInputs">,
    told?: { readonly stages?: boolean; readonly ageMs?: number },
  ): JobMeter;
  /** The entry and its last job are gone, and with them its series, unless another entry has the same token. */
  close(): void;
  /** For what its executor has to tell. */
  readonly executor: ExecutorMeter;
}

/** What tells an entry's series apart. Both may be empty for an entry that cannot be used. */
export interface NamedEntry {
  readonly id: string;
  readonly name: string;
}

/** Every `RunnerConfig` is one. */
export interface MetricsEntry extends NamedEntry {
  readonly limit: number;
  readonly executor?: string;
  readonly requestConcurrency?: number;
  readonly queuingLimits?: readonly QueuingLimit[];
}
