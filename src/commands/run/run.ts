import type { Board } from "../../board/contract.ts";
import { type ControlServer, openControl } from "../../control/server.ts";
import type { Reloaded, Steering } from "../../control/steering.ts";
import { describeError, Stop } from "../../errors.ts";
import type { RunnerLog } from "../../log.ts";
import type { Supervisor } from "../../poll/supervisor.ts";
import { deadline } from "../../time.ts";
import type { ConfigChanges, RunDeps, RunOptions } from "./deps.ts";
import { end, fired } from "./end.ts";
import { createPage } from "./page.ts";
import { listenToAccidents, listenToSignals, type Wish } from "./signals.ts";
import { follow, type Started, start, statusOf } from "./start.ts";
import { listenToWishes } from "./wishes.ts";

/** Name of the control socket in log lines that otherwise name a signal. */
const BY_SOCKET = "the control socket";
const RELOAD_LIMIT_MS = 30_000;

/**
 * `alloy-runner run`: works on jobs until a signal ends it. SIGQUIT waits for running jobs; SIGUSR2 leaves them to the next process,
 * and waits for those that cannot be left; SIGTERM and SIGINT end them, within `shutdown_timeout`; another one ends the process at
 * once. With `stopHandsOver` the first SIGQUIT or SIGTERM is as SIGUSR2. SIGHUP loads the configuration, SIGUSR1 lists the jobs.
 * @returns the exit status; the caller ends the process with it, as something may still be under way after a second signal
 * @throws {CommandError} it cannot be started at all
 */
export async function runCommand(options: RunOptions, deps: RunDeps): Promise<number> {
  const { log, notifier, board } = deps;
  const draining = new AbortController();
  const stopping = new AbortController();
  /** Jobs that can be are to be left to the next process; the second fires once there are no others. */
  const handingOver = new AbortController();
  const handOver = new AbortController();
  let follower: ConfigChanges | undefined;
  let supervisor: Supervisor | undefined;
  const hurried = Promise.withResolvers<number>();

  const onWish = (wish: Wish, signal: string): void => {
    const jobs = board.jobs().length;
    if (wish === "show") showJobs(log, board);
    else if (wish === "reload") {
      log.info("loading the configuration", { signal });
      if (follower !== undefined) notifier.reloading();
      follower?.reload();
    } else if (stopping.signal.aborted) {
      log.error("ending at once; what was not reported yet is reported at the next start", { signal, jobs });
      hurried.resolve(1);
    } else if (wish === "hand over") {
      log.info("asking for no more jobs; the next process of the runner goes on with those that are durable", {
        signal,
        jobs,
        durable: board.jobs().filter(({ outlives }) => outlives).length,
      });
      handingOver.abort(new Stop("handing_over", "the runner's next process goes on with it"));
      draining.abort(handingOver.signal.reason);
    } else if (wish === "drain") {
      log.info("asking for no more jobs; ending after the running ones (SIGTERM ends them)", { signal, jobs });
      draining.abort(new Stop("shutting_down", "the runner drains"));
    } else {
      log.info("stopping; another signal ends the runner at once", { signal, jobs });
      stopping.abort(new Stop("shutting_down", "the runner was stopped"));
      draining.abort(stopping.signal.reason);
    }
  };

  options.drainOn?.addEventListener("abort", () => draining.abort(options.drainOn?.reason), { once: true });
  using _signals = listenToSignals(onWish, options.stopHandsOver === true);
  using _wishes = options.wishes === undefined ? undefined : listenToWishes(options.wishes, onWish);
  using _accidents = listenToAccidents((error, kind) => {
    log.error("something unexpected went wrong; the runner goes on", {
      kind,
      job: supervisor?.blame(error),
      problem: describeError(error),
      stack: error instanceof Error ? error.stack : undefined,
    });
  });

  const work = async (): Promise<number> => {
    const started = await start(options, deps, { stopping: stopping.signal, handOver: handOver.signal }).catch(
      (error) => {
        if (!stopping.signal.aborted) throw error;
        log.info("stopped while starting", { problem: describeError(error) });
        return null;
      },
    );
    if (started === null) return 0;
    supervisor = started.supervisor;
    const steering = steeringOf(started);
    const opening = openSocket(started, steering);
    const page = createPage({ steering, freeBytes: () => started.services.disk().freeBytes, log });
    started.onConfig.add((config) => page.take(config.web));
    const watching = new AbortController();
    let followed: Promise<void> | undefined;
    if (!draining.signal.aborted) {
      started.supervisor.apply(started.config);
      started.supervisor.adopt(started.services.living ?? []);
      deps.metrics.processState("running");
      started.setReady(true);
      notifier.ready(statusOf(started));
      follower = deps.watchConfig(started.file, watching.signal);
      const { reload } = follower;
      followed = follow(follower, started, options, deps, watching.signal);
      await started.keepTokens(reload);
    }
    const control = await opening;
    await page.take(started.config.web);
    await fired(draining.signal);
    started.setReady(false);
    watching.abort();
    return end({ started, followed, control, page, handingOver: handingOver.signal, handOver }, deps, stopping.signal);
  };
  const steeringOf = (started: Started): Steering => {
    const state = () => (stopping.signal.aborted ? "stopping" : draining.signal.aborted ? "draining" : "running");
    return {
      board,
      version: deps.version,
      about: () => {
        const durable = started.services.durable?.();
        const own = durable === undefined ? {} : { durable };
        return { config: started.file, state: state(), concurrent: started.config.concurrent, ...own };
      },
      figures: (runner) => deps.metrics.figures(runner),
      pause: (ids) => started.supervisor.pause(ids),
      resume: (ids) => started.supervisor.resume(ids),
      tidy: (dry) => started.supervisor.tidy(dry, draining.signal),
      // A further signal would end a runner at once that is stopping, and this is none.
      drain: () => {
        if (!stopping.signal.aborted) onWish("drain", BY_SOCKET);
      },
      async reload() {
        if (follower === undefined || draining.signal.aborted)
          return { problem: "The runner loads nothing any more: it ends" };
        const reloaded = new Promise<Reloaded>((resolve) => started.onReload.add(resolve));
        onWish("reload", BY_SOCKET);
        using limit = deadline(draining.signal, RELOAD_LIMIT_MS, new Stop("timed_out", "reload"));
        const late = fired(limit.signal).then(() => ({
          problem: "The runner has not loaded it yet; its log will tell",
        }));
        return await Promise.race([reloaded, late]);
      },
    };
  };
  const openSocket = async (started: Started, steering: Steering): Promise<ControlServer | null> => {
    // Jobs run even if the control socket cannot be opened.
    return await openControl(started.config.stateDir, steering, log).catch((error: unknown) => {
      log.warn("there is no control socket: jobs, logs, cancel, pause and the like do not reach this runner", {
        problem: describeError(error),
      });
      return null;
    });
  };
  // Listeners for signals do not keep the process alive, and a runner without entries has nothing else that does.
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    return await Promise.race([work(), hurried.promise]);
  } finally {
    clearInterval(alive);
    await log.flush(1000);
  }
}

function showJobs(log: RunnerLog, board: Board): void {
  const jobs = board.jobs();
  log.info("jobs in progress", { count: jobs.length });
  for (const { id, title, runner, receivedAt, progress } of jobs) {
    log.info("job", {
      job: id,
      title,
      runner,
      state: progress.at,
      stage: progress.at === "running" ? progress.stage : undefined,
      seconds: Math.round((Date.now() - receivedAt) / 1000),
    });
  }
}
