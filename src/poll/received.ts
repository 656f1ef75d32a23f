import type { ReceivedJob } from "../job/life/received.ts";
import type { JobProgress } from "../metrics.ts";

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
