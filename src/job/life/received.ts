import type { BoardEntry } from "../../board/contract.ts";
import type { RunnerConfig } from "../../config/config.ts";
import type { Coordinator } from "../../coordinator/contract.ts";
import type { Executor } from "../../executor/executor.ts";
import type { Reservation } from "../../executor/prepare.ts";
import type { DeliveryResult, LeftoverJob } from "../../journal/contract.ts";
import type { SessionOffer } from "../../session/contract.ts";
import type { Job, Outcome } from "../job.ts";
import type { JobSecrets } from "../variables/secrets.ts";
import type { WholeLife } from "./durable/look.ts";

/** A job that was handed out, and what it was received with. A reload changes none of it. */
export interface ReceivedJob {
  readonly job: Job;
  readonly entry: RunnerConfig;
  readonly executor: Executor;
  /** For the calls while the job runs; its results go through the outbox. */
  readonly coordinator: Coordinator;
  /**
   * Lowest number that no other running job of this token has: `CI_CONCURRENT_ID`. One that is still to come means that
   * there is no room yet: the job must be kept on disk, and not run before. Never rejects.
   */
  readonly concurrentId: number | Promise<number>;
  /** What its executor set aside for it; whoever received the job lets it go. */
  readonly reservation?: Reservation;
  /** It was begun by an earlier process of the runner, which has left it running. */
  readonly found?: FoundJob;
  /** Its terminal, which nobody has claimed yet. */
  readonly session?: SessionOffer;
  /** Stops the job with a Stop or a SystemFailure; may have fired already: the job is then answered, not run. */
  readonly signal: AbortSignal;
  /** See `RunJobRequest.handOver`. */
  readonly handOver?: AbortSignal;
  /** Where its life is told to those who look at it. */
  readonly board: Pick<BoardEntry, "moved" | "traced" | "offer" | "outlives"> & {
    /** Told once of a job that was found: how many processes have gone on with it, this one included; `null`: it cannot. */
    adopted(times: number | null): void;
  };
}

/** What an earlier process has left of a job that can be gone on with. */
export interface FoundJob {
  readonly leftover: LeftoverJob;
  readonly life: WholeLife;
  /** Nobody can go on with it: what is left of it is cleaned up, and it is reported as failed. Never rejects. */
  bury(why: string): Promise<Buried>;
}

export interface Buried {
  /** Settles, always well. */
  readonly delivered: Promise<DeliveryResult>;
}

/** With what its trace and its lines in the log must not show. */
export interface MaskedJob extends ReceivedJob {
  readonly secrets: JobSecrets;
}

/** What is left of a job that needs its slot no more: its processes and files are gone, its result is on disk. */
export interface HandledJob {
  /** `null`: there is none yet, as the runner's next process goes on with the job. */
  readonly outcome: Outcome | null;
  /** Settles, always well, when the coordinator has the last report or never will. */
  readonly delivered: Promise<DeliveryResult>;
}

/** Runs one job to its end (`handle.ts`); rejects for bugs only. */
export type HandleJob = (received: ReceivedJob) => Promise<HandledJob>;
