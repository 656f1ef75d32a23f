import type { FailureReason } from "../errors.ts";
import type { Note } from "../executor/prepare.ts";
import type { Dialect } from "../job/job.ts";

/** What is known of a job on disk, from its acceptance until its last report has arrived. */
export interface StoredJob {
  /** Directory name in `<state_dir>/jobs`, and the mark of the job's processes and containers. */
  readonly key: string;
  readonly id: string;
  readonly token: string;
  readonly dialect: Dialect;
  /** Each line of its trace has its time. */
  readonly stamped?: boolean | undefined;
  /** Its trace may show secrets. */
  readonly debugTrace?: boolean | undefined;
  /** `project / job`, for log lines. */
  readonly title: string;
  /** How to reach its coordinator again, also when the entry is gone from the config by then. */
  readonly runner: {
    readonly id: string;
    readonly name: string;
    readonly token: string;
    readonly url: string;
    readonly tlsCaFile: string | null;
    readonly tlsCertFile: string | null;
    readonly tlsKeyFile: string | null;
    readonly certsDir: string;
  };
  readonly executor: string;
  readonly knownReasons: readonly string[];
  readonly acceptedAt: string; // RFC 3339
  readonly boot: string; // boot id of the machine at acceptance, empty where unknown
}

/** The final report of a job. */
export interface FinalReport {
  readonly state: "success" | "failed";
  readonly reason: FailureReason | null;
  readonly exitCode: number | null;
  readonly at: string; // RFC 3339
}

/** One accepted job's place on disk. */
export interface JobRecord {
  readonly stored: StoredJob;
  readonly dir: string;
  /** The spool; an empty file from the job's acceptance on. */
  readonly tracePath: string;
  /** The verdict, as soon as `finish` was called; it is never replaced by another. */
  readonly report: FinalReport | null;
  /** On disk and synced when this resolves. */
  remember(note: Note): Promise<void>;
  /** How far the coordinator has acknowledged the trace. Kept lazily: after a crash it may be behind, never ahead. */
  acknowledged(offset: number): void;
  /**
   * The verdict, synced after the spool: from here on it is delivered, whatever happens. Once per job.
   * @throws {SystemFailure} it could not be kept; `report` holds it all the same, and it can be delivered from memory
   */
  finish(report: FinalReport): Promise<void>;
  /** Recovery only: the runner died when the spool had `offset` sound bytes; what follows is its notice. Synced. */
  died(offset: number): Promise<void>;
  /** Nothing more to deliver. */
  remove(): Promise<void>;
}

/** A job that the last process left behind. */
export interface LeftoverJob {
  readonly record: JobRecord;
  /** What its executor remembered, in order. */
  readonly notes: readonly Note[];
  /** How far the coordinator had acknowledged the trace at least. */
  readonly acknowledged: number;
  /** Where the notice of an earlier recovery begins that did not get as far as a verdict, or had not delivered it. */
  readonly diedAt: number | null;
}

/** The accepted jobs on disk. One process has them at a time. */
export interface Journal {
  /** Changes with each start of the machine, for `StoredJob.boot`. */
  readonly boot: string;
  /**
   * On disk and synced when this resolves: only then may the job's first script start.
   * @param beside puts what else is kept of the job into its directory, before there is a record: whoever finds one finds all
   * @throws {SystemFailure} it cannot be kept; nothing of it is left
   */
  accept(stored: StoredJob, beside?: (dir: string) => Promise<void>): Promise<JobRecord>;
  /** What was found at start, oldest first. */
  leftovers(): readonly LeftoverJob[];
  /** What is kept lazily is written. Records must not be used any more. */
  close(): Promise<void>;
}

/**
 * How a delivery ended. `delivered`: the coordinator has the result. `refused`: it wants to hear nothing of this job
 * (any more). `expired`: too old. `kept`: the outbox was closed first; the next process goes on with it.
 */
export type DeliveryResult = "delivered" | "refused" | "expired" | "kept";

/** What the coordinator has and said of a job before its end. */
export interface SentTrace {
  /** Bytes of the trace that it has. */
  readonly sent: number;
  /** End of what was ever sent to it: it cannot have more. Infinity where that is not known. */
  readonly offered: number;
  /** It said that the job is over. */
  readonly gone: boolean;
  /** The whole trace, by whoever wrote it: a large one need not be read again for its CRC-32 alone. */
  readonly whole?: { readonly size: number; readonly crc32: number };
}

/** Finished jobs whose report has not arrived yet. */
export interface Outbox {
  /**
   * Deliver the rest of the trace and the final state, for as long as it takes; the record is removed then.
   * @param sent settles once nothing of the job is on its way any more; `close` waits for it
   */
  deliver(record: JobRecord, sent: SentTrace | Promise<SentTrace>): Promise<DeliveryResult>;
  /** A job that could not be kept and was not run: its verdict and only line, from memory. */
  answer(stored: StoredJob, report: FinalReport, line: Uint8Array): Promise<DeliveryResult>;
  /** The same as `deliver`, for a job found at start. */
  adopt(leftover: LeftoverJob): Promise<DeliveryResult>;
  /** Does the report of this job wait here? `origin` is its `Coordinator.origin`. */
  has(origin: string, jobId: string): boolean;
  /** This coordinator answered somebody soundly: what waits for it is tried at once. */
  answered(origin: string): void;
  gauges(): { readonly entries: number; readonly oldestSeconds: number; readonly bytes: number };
  /** Deliveries that can go on do so until `signal` fires; nothing is lost, what is left is `kept`. */
  close(signal: AbortSignal): Promise<void>;
}
