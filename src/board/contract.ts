import type { JobProgress } from "../job/job.ts";

/**
 * What must never stand where people look at jobs. A value that has one of these is refused by the compiler, so that nobody
 * hands a job, an entry or an update to the board in passing.
 */
interface WithoutSecrets {
  readonly token?: never;
  readonly variables?: never;
  readonly environment?: never;
  readonly credentials?: never;
  readonly steps?: never;
}

/** What a job is from its arrival on. */
export interface JobCard extends WithoutSecrets {
  /** The coordinator's number for it. */
  readonly id: string;
  /** `group/project: job name` */
  readonly title: string;
  /** 8 hex digits that stand for the runner's token. */
  readonly runner: string;
  /** `name` of the `[[runners]]` entry. */
  readonly runnerName: string;
  /** `Date.now()` of its arrival. */
  readonly receivedAt: number;
}

/** A job as people, metrics and other programs see it: nothing secret can get in. */
export interface JobView extends JobCard {
  readonly progress: JobProgress;
  /** `Date.now()` when `progress` became what it is. */
  readonly since: number;
  /** Bytes of its trace so far. */
  readonly traceBytes: number;
}

/** A running job's two handles for those who look at it. */
export interface JobHandles {
  /** The last bytes of the trace, at most so many: masked, as the coordinator gets them. */
  tail(bytes: number): Promise<Buffer>;
  /** Stop its script; after_script still runs. */
  cancel(): void;
}

/** One job's side of the board. */
export interface BoardEntry {
  moved(progress: JobProgress): void;
  /** Bytes that its trace grew by. */
  traced(bytes: number): void;
  /** From now on these handles serve whoever looks into the job or cancels it, instead of those that it was added with. */
  offer(handles: JobHandles): void;
  /** The job is done with: it goes to those that have finished. A second call does nothing. */
  end(): void;
}

export interface Board {
  add(card: JobCard, handles: JobHandles): BoardEntry;
  /** Between arrival and delivery of the last report, oldest first. */
  jobs(): readonly JobView[];
  /** The last ones that ended, newest first. */
  finished(): readonly JobView[];
  /** `null`: there is no such job in progress. */
  tail(id: string, bytes: number): Promise<Buffer | null>;
  /** @returns how many jobs of this id were told to stop: coordinators number their jobs independently of each other */
  cancel(id: string): number;
  /** Called at each change with the job as it is now. @returns what ends that */
  watch(onChange: (job: JobView) => void): () => void;
}
