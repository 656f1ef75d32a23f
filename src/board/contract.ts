import type { JobProgress, JobUsage } from "../job/job.ts";

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
  /** Its page at its coordinator, or its repository where that is not known; without credentials. */
  readonly page: string;
  /** 8 hex digits that stand for the runner's token. */
  readonly runner: string;
  /** `name` of the `[[runners]]` entry. */
  readonly runnerName: string;
  /** `Date.now()` of its arrival. */
  readonly receivedAt: number;
  /** How long it waited at the coordinator, as that says. */
  readonly queuedSeconds?: number;
}

/** A job as people, metrics and other programs see it: nothing secret can get in. */
export interface JobView extends JobCard {
  /** Which of this process's jobs it is: coordinators number theirs independently of each other. */
  readonly number: number;
  readonly progress: JobProgress;
  /** `Date.now()` when `progress` became what it is. */
  readonly since: number;
  /** Bytes of its trace so far. */
  readonly traceBytes: number;
  /** It goes on when this process ends. */
  readonly outlives?: true;
  /** So many processes have gone on with it that had not begun it, this one included. */
  readonly adopted?: number;
  /** What it has used, once that is known. */
  readonly usage?: JobUsage;
  /** What has ended of it, in order, each once; `prepare_executor` first. */
  readonly stages: readonly StageTime[];
}

/** How long a job was at a stage. */
export interface StageTime {
  readonly name: string;
  readonly ms: number;
}

/** A trace as far as it is written: masked, as the coordinator gets it. */
export interface ShownTrace {
  readonly size: number;
  /** No byte will follow. */
  readonly ended: boolean;
  /** With times before its lines: the last one goes on, although a line break stands behind it. */
  readonly lineOpen?: boolean;
  /** Bytes `[from, from + maxBytes)`, fewer at the end. */
  read(from: number, maxBytes: number): Promise<Buffer>;
}

/** What a job in progress uses. */
export interface LiveUsage extends JobUsage {
  /** Processor time between the last two looks; 100: one processor, all the time. */
  readonly cpuPercent?: number;
}

/** A job's handles for those who look at it. */
export interface JobHandles {
  readonly trace: ShownTrace;
  /** Stops the job's script; after_script still runs. Does nothing for a job that has ended. */
  readonly cancel: () => void;
  /** What it has used and uses now; nothing where that cannot be told. */
  readonly usage: () => Promise<JobUsage>;
}

/** The board's methods for one job. */
export interface BoardEntry {
  moved(progress: JobProgress): void;
  /** Bytes that its trace grew by. */
  traced(bytes: number): void;
  /** It can be handed over to the runner's next process from now on. */
  outlives(): void;
  /** An earlier process has begun it, and so many have gone on with it. */
  adopted(times: number): void;
  /** From now on these handles serve whoever looks into the job or cancels it, instead of those that it was added with. */
  offer(handles: Partial<JobHandles>): void;
  /** Moves the job, which is done with, to those that have finished. A second call does nothing. */
  end(): void;
}

/** What a `[[runners]]` entry is, for people. */
export interface RunnerCard extends WithoutSecrets {
  /** 8 hex digits that stand for its token; empty where an entry that cannot be used has none. */
  readonly id: string;
  readonly name: string;
  readonly executor: string;
  /** The coordinator's address, without path and login. */
  readonly origin: string;
  /** Jobs at once; may be Infinity. */
  readonly limit: number;
}

/** What an entry without a job to take is doing, which says why no more jobs come. Times are `Date.now()`. */
export type RunnerActivity =
  /** It has not asked yet. */
  | { readonly at: "starting" }
  | { readonly at: "asking"; readonly since: number }
  /** The coordinator had no job. */
  | { readonly at: "idle"; readonly answeredAt: number }
  /** As many jobs run as `concurrent`, `max_weight` or its `limit` allows, or as many requests are under way as it may have. */
  | { readonly at: "slot"; readonly held: "concurrent" | "weight" | "limit" | "requests"; readonly most: number }
  /** Its executor has no room for one more job. */
  | { readonly at: "full" }
  | ({ readonly at: "disk" } & DiskState)
  /** Its executor says that no job could run: an engine, a host or a service does not answer. */
  | { readonly at: "place"; readonly problem: string }
  /** The machine is short of memory or processors. */
  | {
      readonly at: "pressure";
      readonly of: "memory" | "cpu";
      readonly percent: number;
      readonly most: number;
    }
  /** So many of its jobs in a row got no place that it asks for none until then. */
  | { readonly at: "breaker"; readonly until: number; readonly failures: number }
  /** After such a pause: a single job is under way, and shows whether there are places again. */
  | { readonly at: "trial" }
  | { readonly at: "backing off"; readonly until: number; readonly problem: string }
  /** The coordinator does not accept its token. */
  | { readonly at: "refused"; readonly status: number; readonly until: number }
  | { readonly at: "paused" }
  /** It asks for no more jobs while its last ones run. */
  | { readonly at: "leaving" }
  /** Its lines of the configuration cannot be used. */
  | { readonly at: "unusable"; readonly problem: string };

/** How much room a disk has, and must have. */
export interface DiskState {
  /** What is on it; by default the runner's state. */
  readonly directory?: string;
  /** Unknown where the disk cannot be looked at. */
  readonly freeBytes: number | undefined;
  readonly minFreeBytes: number;
  readonly freeInodes?: number | undefined;
  readonly minFreeInodes?: number;
}

export interface RunnerView extends RunnerCard {
  readonly activity: RunnerActivity;
}

export interface Board {
  add(card: JobCard, handles: JobHandles): BoardEntry;
  /** Between arrival and delivery of the last report, oldest first. */
  jobs(): readonly JobView[];
  /** The last ones that ended, newest first. */
  finished(): readonly JobView[];
  /** `null`: there is no such job in progress. */
  trace(number: number): ShownTrace | null;
  /**
   * What the job uses at this moment; nothing where that is not known, or not soon. It is measured when somebody asks, and then for all
   * who ask.
   */
  usage(number: number): Promise<LiveUsage>;
  /** @returns whether there is such a job in progress */
  cancel(number: number): boolean;
  /** Called at each change with the job as it is now. @returns what ends that */
  watch(onChange: (job: JobView) => void): () => void;
  /** An entry is there, until that is disposed of. `look` is called whenever somebody asks. */
  addRunner(card: RunnerCard, look: () => RunnerActivity): Disposable;
  /** The entries, in the order in which they were added. */
  runners(): readonly RunnerView[];
}
