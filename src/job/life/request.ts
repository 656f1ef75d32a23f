import type { RunnerConfig } from "../../config/config.ts";
import type { Environment } from "../../executor/environment.ts";
import type { Executor } from "../../executor/executor.ts";
import type { Note, Reservation } from "../../executor/prepare.ts";
import type { Log } from "../../log.ts";
import type { ResolveRequest } from "../../secrets/resolve.ts";
import type { JobSession } from "../../session/contract.ts";
import type { ShellName, ShellWriter } from "../../shell.ts";
import type { Trace } from "../../trace/contract.ts";
import type { TransferMeans } from "../../transfer/transfer.ts";
import type { Job, JobProgress, JobUsage, Variable } from "../job.ts";
import type { PlanSettings } from "../plan/stage.ts";
import type { JobSecrets } from "../variables/secrets.ts";
import type { RunnerIdentity } from "../variables/variables.ts";
import type { FoundProgress } from "./durable/found.ts";
import type { KeptJob } from "./durable/keep.ts";
import type { StoredPlan } from "./durable/stored-plan.ts";

/** What a job needs to know of its `[[runners]]` entry. */
export type JobRunner = Pick<
  RunnerConfig,
  | "name"
  | "id"
  | "url"
  | "token"
  | "shortToken"
  | "environment"
  | "debugTraceDisabled"
  | "featureFlags"
  | "jobGitVariables"
  | "customBuildDir"
  | "prepareTimeoutMs"
> &
  PlanSettings;

/** Asks the stores for a job's secrets. @throws {SystemFailure} */
export type ResolveSecrets = (request: ResolveRequest, signal: AbortSignal) => Promise<Variable[]>;

/** A job that another process has begun, with what of it goes on. */
export interface FoundRun {
  readonly progress: FoundProgress;
  /** Absent where it was not planned. */
  readonly plan?: StoredPlan;
  /** What its stores of secrets have told; absent: they were not asked. */
  readonly variables?: readonly Variable[];
  /** Absent: it has none (any more), and no script of its author has run. */
  readonly environment?: Environment;
}

export interface RunJobRequest {
  readonly job: Job;
  /** Unique over all jobs of this host and all times. */
  readonly jobKey: string;
  readonly runner: JobRunner;
  readonly identity: RunnerIdentity;
  readonly executor: Executor;
  /** Secrets that cannot be hidden are a reason not to run the job. */
  readonly secrets: Pick<JobSecrets, "warnings" | "problem">;
  /** The writer for a shell; `undefined` where there is none. */
  readonly findWriter: (shell: ShellName) => ShellWriter | undefined;
  /** Knows the job's secrets already (`secretsOf`). */
  readonly trace: Trace;
  readonly log: Log;
  readonly transfers: TransferMeans;
  readonly resolveSecrets: ResolveSecrets;
  /** `CI_CONCURRENT_ID`. */
  readonly concurrentId: number;
  readonly reservation?: Reservation;
  /** Kept on disk before it resolves: see `PrepareRequest.remember`. */
  readonly remember: (note: Note) => Promise<void>;
  /** What it does is kept for the runner's next process. */
  readonly kept?: KeptJob;
  /** An earlier process has begun it. */
  readonly found?: FoundRun;
  /**
   * Fires with a `Stop` when nothing more may run: `canceled`, `shutting_down`. Needed beside the job's signal because that
   * one may have fired before for a reason that lets after_script run.
   */
  readonly halt: AbortSignal;
  /**
   * Fires with a `Stop` when the runner's next process is to go on with the job, if it can by then: where its environment and all
   * that it did are kept. A job that is being stopped ends here.
   */
  readonly handOver?: AbortSignal;
  /** Told once it can be handed over. */
  readonly onOutlives?: () => void;
  /** Its terminal, and how long the job stays open for one; `runJob` ends it. */
  readonly terminal?: { readonly session: JobSession; readonly timeoutMs: number };
  readonly onProgress?: (progress: JobProgress) => void;
  /** Told once the job has surroundings, with what measures what it uses in them. */
  readonly onPlace?: (usage: () => Promise<JobUsage>) => void;
  /** Between tries of `prepare`, by default 3 s. */
  readonly preparePauseMs?: number;
  /** Before the second attempt of a stage, by default 2 s; it grows. */
  readonly attemptPauseMs?: number;
  /** Before the second attempt to get the job's secrets, by default 5 s; it grows. */
  readonly secretsPauseMs?: number;
  /** Longest clean-up, by default 30 s. */
  readonly destroyTimeoutMs?: number;
}
