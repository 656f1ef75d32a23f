import type { RunnerConfig } from "../config/config.ts";
import type { Coordinator } from "../coordinator/contract.ts";
import type { Executor } from "../executor.ts";
import type { Job } from "../job/job.ts";
import type { JobMeter, JobProgress } from "../metrics.ts";

/** A job that may run now, and what it was received with. A reload changes none of it. */
export interface ReceivedJob {
  readonly job: Job;
  readonly entry: RunnerConfig;
  readonly executor: Executor;
  readonly coordinator: Coordinator;
  /**
   * Lowest number that no other running job of this token has: `CI_CONCURRENT_ID`. One that is still to come means that
   * there is no room yet: the job must be kept on disk, and not run before.
   */
  readonly concurrentId: number | Promise<number>;
  /**
   * Fires with a Stop when the runner is told to stop (it may have fired already: the job is then answered, not run), or
   * with a SystemFailure when something of this job went wrong where no one caught it.
   */
  readonly signal: AbortSignal;
  readonly meter: JobMeter;
}

/** What is left of a job that needs its slot no more: processes and files are gone, the outcome is on disk. */
export interface HandledJob {
  /** Settles when the coordinator has the last report, or never will. */
  readonly delivered: Promise<unknown>;
}

/** Runs one job to its end. Written in `job/handle.ts`; rejects for bugs only. */
export type HandleJob = (received: ReceivedJob) => Promise<HandledJob>;

/** A job in progress, for people who ask what the runner is doing. */
export interface ActiveJob {
  readonly id: string;
  /** `group/project: job name` */
  readonly title: string;
  readonly runner: string;
  /** `Date.now()` of its arrival. */
  readonly receivedAt: number;
  readonly progress: JobProgress | { readonly at: "delivering" };
}
