import { AsyncLocalStorage } from "node:async_hooks";
import type { Board, BoardEntry, JobHandles } from "../board/contract.ts";
import type { RunnerConfig } from "../config/config.ts";
import type { Coordinator } from "../coordinator/contract.ts";
import { describeError, type FailureReason, Stop, SystemFailure } from "../errors.ts";
import type { Executor } from "../executor/executor.ts";
import type { Reservation } from "../executor/prepare.ts";
import type { Job, JobProgress, JobResult } from "../job/job.ts";
import { ageOf } from "../job/life/durable/found-age.ts";
import { withoutWords } from "../job/life/life.ts";
import type { FoundJob, HandledJob, HandleJob, ReceivedJob } from "../job/life/received.ts";
import { measuresStages } from "../job/plan/trace-wishes.ts";
import type { Log } from "../log.ts";
import type { EntryMeter } from "../metrics/meters.ts";
import type { Metrics } from "../metrics/metrics.ts";
import type { SessionOffer } from "../session/contract.ts";
import type { PlaceResult } from "./admission/breaker.ts";
import { letGo } from "./reservation.ts";
import type { Slot } from "./slots.ts";

/** One received job with everything that is let go of at its end. */
export interface Arrival {
  readonly job: Job;
  /** An earlier process has begun it. */
  readonly found?: FoundJob;
  readonly entry: RunnerConfig;
  readonly executor: Executor;
  readonly coordinator: Coordinator;
  readonly slot: Slot;
  readonly reservation: Reservation | undefined;
  readonly session: SessionOffer | undefined;
  readonly meter: EntryMeter;
  readonly log: Log;
  /** Told once whether the job got a place to run in. */
  readonly onPlace: (result: PlaceResult) => void;
  /** Told once the last report has arrived: the next stage may be waiting. */
  readonly onDelivered: () => void;
}

export interface Jobs {
  /**
   * Runs a job. @returns a promise that resolves when its slot and its reservation are free again and never rejects, or `null` for a job that
   * runs or waits for delivery already
   */
  take(arrival: Arrival): Promise<void> | null;
  /** Is the caller's code part of a job? Then end that job as the runner's fault. @returns the job's id */
  blame(error: unknown): string | undefined;
}

export interface JobsOptions {
  readonly handleJob: HandleJob;
  /** Is a report of this job still to be delivered, from before this process started? */
  readonly isPending: (origin: string, jobId: string) => boolean;
  readonly board: Board;
  /** Told of jobs of earlier processes. */
  readonly metrics?: Pick<Metrics, "adopted">;
  /** Fires with a Stop when jobs that can be are left to the runner's next process. */
  readonly handOver?: AbortSignal;
}

interface Running {
  readonly id: string;
  readonly controller: AbortController;
  readonly shown: BoardEntry;
}

/** All jobs between their arrival and the delivery of their last report. `process` is the signal that stops the runner. */
export function createJobs(
  { handleJob, isPending, board, metrics, handOver }: JobsOptions,
  process: AbortSignal,
): Jobs {
  const running = new Map<string, Running>();
  const current = new AsyncLocalStorage<Running>();

  /** Apart from the rest: thousands may wait for a coordinator, and nothing of the jobs themselves should. */
  const letGoOnceDelivered = (
    key: string,
    { shown }: Running,
    handled: HandledJob | undefined,
    onDelivered: () => void,
  ): void => {
    const settled = (): void => {
      running.delete(key);
      shown.end();
      onDelivered();
    };
    if (handled === undefined) settled();
    else handled.delivered.then(settled, settled);
  };

  const run = async (arrival: Arrival, mine: Running, key: string): Promise<void> => {
    const { job, found, entry, executor, coordinator, slot, reservation, session, log } = arrival;
    const arrivedAt = performance.now();
    const jobMeter = arrival.meter.job(job, {
      stages: measuresStages(job, entry),
      ...(found === undefined ? {} : { ageMs: ageOf(found) }),
    });
    const { controller, shown } = mine;
    const seePlace = placeWatcher(arrival.onPlace);
    const onProcess = (): void => controller.abort(process.reason);
    if (process.aborted) onProcess();
    else process.addEventListener("abort", onProcess, { once: true });
    const told: ReceivedJob["board"] = {
      offer: shown.offer,
      outlives: shown.outlives,
      adopted(times) {
        if (times !== null) shown.adopted(times);
        metrics?.adopted(times === null ? "buried" : "adopted", (performance.now() - arrivedAt) / 1000);
      },
      moved: (progress) => {
        shown.moved(progress);
        jobMeter.moved(progress);
        seePlace(progress);
      },
      traced: (bytes) => {
        shown.traced(bytes);
        jobMeter.traced(bytes);
      },
    };
    let handled: HandledJob | undefined;
    let lettingGo: Promise<void> | undefined;
    try {
      // On a slot that was lent meanwhile it may have to wait; it is on disk by then, as the coordinator has given it away.
      const concurrentId = slot.run(controller.signal);
      handled = await current.run(mine, () =>
        handleJob({
          job,
          entry,
          executor,
          coordinator,
          concurrentId,
          ...(found === undefined ? {} : { found }),
          ...(reservation === undefined ? {} : { reservation }),
          ...(session === undefined ? {} : { session }),
          signal: controller.signal,
          ...(handOver === undefined ? {} : { handOver }),
          board: told,
        }),
      );
    } catch (error) {
      log.error("a job ended in a way that should not exist", {
        job: job.id,
        problem: describeError(error),
        stack: error instanceof Error ? error.stack : undefined,
      });
    } finally {
      process.removeEventListener("abort", onProcess);
      seePlace({ at: "finished", outcome: unknownEnd });
      slot.release();
      lettingGo = letGo(reservation, log);
    }
    shown.offer({ cancel: nothingRuns.cancel, usage: nothingRuns.usage });
    if (handled?.outcome !== null)
      shown.moved({ at: "delivering", outcome: handled === undefined ? unknownEnd : withoutWords(handled.outcome) });
    letGoOnceDelivered(key, mine, handled, arrival.onDelivered);
    await lettingGo;
  };

  return {
    take(arrival) {
      const { job, found, entry, coordinator, log } = arrival;
      const key = `${coordinator.origin} ${job.id}`;
      const title = `${job.projectName}: ${job.name}`;
      if (running.has(key) || isPending(coordinator.origin, job.id)) {
        log.warn("a job was handed out a second time; it is not started again", {
          job: job.id,
          url: coordinator.origin,
        });
        return null;
      }
      const repository = withoutSecrets(job.git.repoUrl);
      log.info(found === undefined ? "job received" : "job found running; it goes on", {
        job: job.id,
        title,
        project: job.projectId,
        ...aboutPipeline(job),
        ...(job.queuedSeconds === undefined ? {} : { queued_seconds: job.queuedSeconds }),
        ...(repository === "" ? {} : { repository }),
        ...(job.correlationId === undefined ? {} : { correlation_id: job.correlationId }),
      });
      const controller = new AbortController();
      const card = {
        id: job.id,
        title,
        page: pageOf(job, repository),
        runner: entry.id,
        runnerName: entry.name,
        receivedAt: Date.now() - (found === undefined ? 0 : ageOf(found)),
        ...(job.queuedSeconds === undefined ? {} : { queuedSeconds: job.queuedSeconds }),
      };
      const shown = board.add(card, {
        ...nothingRuns,
        cancel: () => controller.abort(new Stop("canceled", "by the operator of this runner")),
      });
      const mine: Running = { id: job.id, controller, shown };
      running.set(key, mine);
      return run(arrival, mine, key);
    },
    blame(error) {
      const mine = current.getStore();
      if (mine === undefined) return undefined;
      mine.controller.abort(new SystemFailure("an unexpected error in the runner ended this job", { cause: error }));
      return mine.id;
    },
  };
}

/**
 * Tells of a job's way, once, whether it got a place. A job that ends before it was prepared tells nothing, and neither does one
 * that asked for what cannot be had.
 */
function placeWatcher(tell: (result: PlaceResult) => void): (progress: JobProgress) => void {
  let told = false;
  let preparing = false;
  return (progress) => {
    if (progress.at === "preparing") preparing = true;
    if (told || (progress.at !== "running" && progress.at !== "finished")) return;
    told = true;
    if (progress.at === "running") return tell("worked");
    const { outcome } = progress;
    tell(preparing && outcome.result === "failed" && OURS.has(outcome.reason) ? "failed" : "unknown");
  };
}

/** Reasons why a job could not be prepared that another job would meet, too. */
const OURS: ReadonlySet<FailureReason> = new Set(["runner_system_failure", "runner_external_dependency_failure"]);

/** The handles of a job that has not begun: there is nothing to read, to stop and to measure. */
const nothingRuns: JobHandles = {
  trace: { size: 0, ended: false, read: async () => Buffer.alloc(0) },
  cancel: () => {},
  usage: async () => ({}),
};

/** The result of a job whose handling broke: a bug. */
const unknownEnd: JobResult = { result: "failed", reason: "runner_system_failure" };

/** GitLab has a page for each job below its project's. */
function pageOf({ id, dialect }: Job, repository: string): string {
  const project = repository.replace(/\/*(?:\.git)?\/*$/, "");
  return dialect === "gitlab" && project !== "" ? `${project}/-/jobs/${encodeURIComponent(id)}` : project;
}

/** Scheme, host and path of a URL. */
function withoutSecrets(text: string): string {
  if (!URL.canParse(text)) return "";
  const { protocol, host, pathname } = new URL(text);
  return `${protocol}//${host}${pathname}`;
}

/** What everybody who sees the job at its coordinator sees, too, by the variables that both dialects send. */
function aboutPipeline({ variables }: Job): Readonly<Record<string, string>> {
  const named = { pipeline: "CI_PIPELINE_ID", ref: "CI_COMMIT_REF_NAME", sha: "CI_COMMIT_SHA" };
  return Object.fromEntries(
    Object.entries(named).flatMap(([field, key]) => {
      const variable = variables.findLast((one) => one.key === key);
      const known = variable !== undefined && !variable.masked && variable.public && variable.value !== "";
      return known ? [[field, variable.value.slice(0, 200)]] : [];
    }),
  );
}
