import type { FailureReason } from "../errors.ts";
import type { Note } from "../executor.ts";
import type { Dialect } from "../job/job.ts";

/** What is known of a job on disk, from its acceptance until its last report has arrived. */
export interface StoredJob {
  /** Directory name in `<state_dir>/jobs`, and the mark of the job's processes and containers. */
  readonly key: string;
  readonly id: string;
  readonly token: string;
  readonly dialect: Dialect;
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
  readonly tracePath: string;
  /** On disk and synced when this resolves. */
  remember(note: Note): Promise<void>;
  /** How far the coordinator has acknowledged the trace. Kept lazily: after a crash it may be behind, never ahead. */
  acknowledged(offset: number): void;
  /** The verdict, synced: from here on it is delivered, whatever happens. */
  finish(report: FinalReport): Promise<void>;
  /** Nothing more to deliver. */
  remove(): Promise<void>;
}
