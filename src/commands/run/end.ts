import type { Board } from "../../board/contract.ts";
import type { ControlServer } from "../../control/server.ts";
import { Stop } from "../../errors.ts";
import { deadline, never } from "../../time.ts";
import type { RunDeps } from "./deps.ts";
import type { Page } from "./page.ts";
import type { Started } from "./start.ts";

/** How long reports under way may take once the last job has ended. */
const LAST_REPORTS_MS = 10_000;
/** The same where the next process is about to go on with them. */
const HANDED_OVER_REPORTS_MS = 2000;
/** And for requests for jobs that are under way then. */
const LAST_REQUEST_MS = 5000;

/** What still runs of a runner that asks for no more jobs. */
export interface Ending {
  readonly started: Started;
  /** Settles when changes of the configuration are no longer followed. */
  readonly followed: Promise<void> | undefined;
  /** The control socket, which works until the last job has ended. */
  readonly control: ControlServer | null;
  /** So does the page. */
  readonly page: Page;
  /** Jobs that can be are to be left to the next process. */
  readonly handingOver: AbortSignal;
  /** Leaves them to it. */
  readonly handOver: AbortController;
}

/** Waits for the jobs, bounded once `stopping` fires. @returns the exit status */
export async function end(
  { started, followed, control, page, handingOver, handOver }: Ending,
  { log, metrics, notifier, board }: RunDeps,
  stopping: AbortSignal,
): Promise<number> {
  const { supervisor, services } = started;
  const { shutdownTimeoutMs } = started.config;
  const count = board.jobs().length;
  metrics.processState(stopping.aborted ? "forceful-shutdown" : "graceful-shutdown");
  notifier.stopping(`ending, ${count} ${count === 1 ? "job" : "jobs"} left`);

  let stoppedAt = stopping.aborted ? performance.now() : undefined;
  void fired(handingOver)
    .then(() => onlyOutliving(board))
    .then(() => handOver.abort(handingOver.reason));
  const finish = async (): Promise<number> => {
    await supervisor.drain(handingOver.aborted ? LAST_REQUEST_MS : undefined);
    // A stopping runner must end before `shutdown_timeout`; reports that have not arrived by then are sent at the next
    // start.
    const leftMs =
      stoppedAt === undefined ? Number.POSITIVE_INFINITY : stoppedAt + shutdownTimeoutMs - performance.now();
    const longestMs = handingOver.aborted ? HANDED_OVER_REPORTS_MS : LAST_REPORTS_MS;
    const limitMs = Math.max(Math.min(longestMs, leftMs - 1000), 100);
    using limit = deadline(never, limitMs, new Stop("shutting_down", "the runner ends"));
    await Promise.race([followed, fired(limit.signal)]);
    await page.take(null);
    await control?.close();
    await services.close(limit.signal);
    await started.stopServing();
    await notifier.close();
    log.info("ended");
    return 0;
  };
  const finished = finish();
  const giveUp = async (): Promise<number> => {
    await Promise.race([fired(stopping), finished]);
    if (!stopping.aborted) return finished;
    stoppedAt ??= performance.now();
    metrics.processState("forceful-shutdown");
    using limit = deadline(never, shutdownTimeoutMs, new Stop("shutting_down", "shutdown_timeout"));
    await Promise.race([fired(limit.signal), finished]);
    if (!limit.signal.aborted) return finished;
    log.error("shutdown_timeout has passed; what is left is reported at the next start", {
      seconds: shutdownTimeoutMs / 1000,
      jobs: board.jobs().length,
    });
    return 1;
  };
  return Promise.race([finished, giveUp()]);
}

/**
 * Resolves once all jobs can be left to another process. Until then these are followed, too: nobody would read what they print
 * while this one waits for the others.
 */
async function onlyOutliving(board: Board): Promise<void> {
  const areAll = (): boolean =>
    board.jobs().every(({ outlives, progress }) => outlives || progress.at === "delivering");
  const { promise, resolve } = Promise.withResolvers<void>();
  const stopWatching = board.watch(() => {
    if (areAll()) resolve();
  });
  if (areAll()) resolve();
  await promise;
  stopWatching();
}

/** Resolves once `signal` has fired. */
export function fired(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
