import type { Readable } from "node:stream";
import type { Config, RunnerConfig } from "../config/config.ts";
import type { Coordinator } from "../coordinator/contract.ts";
import { describeError, Stop } from "../errors.ts";
import type { Executor } from "../executor.ts";
import type { LogFormat, LogLevel, RunnerLog } from "../log.ts";
import type { EntryMeter, Metrics } from "../metrics.ts";
import type { Notifier } from "../notify.ts";
import type { PollTiming } from "../poll/pace.ts";
import type { HandleJob } from "../poll/received.ts";
import type { Supervisor } from "../poll/supervisor.ts";
import { end, fired } from "./run-end.ts";
import { listenToAccidents, listenToSignals, type Wish } from "./run-signals.ts";
import { follow, start, statusOf } from "./run-start.ts";
import { listenToWishes } from "./run-wishes.ts";

export interface RunOptions {
  /** As typed; relative ones are meant from where the command was started, not from `workingDirectory`. */
  readonly config: string;
  readonly workingDirectory: string | undefined;
  /** `--syslog` was given: accepted, as the log on stderr ends there anyway. */
  readonly syslog: boolean;
  /** These win over the file, also after a reload. */
  readonly listenAddress: string | undefined;
  readonly logLevel: LogLevel | undefined;
  readonly logFormat: LogFormat | undefined;
  /** Drains as after SIGQUIT once it fires. */
  readonly drainOn?: AbortSignal;
  /** Where a service host writes `drain` and `stop`. */
  readonly wishes?: Readable;
}

/** What jobs need beside their entry: journal, outbox, connections. Opened once the configuration is known. */
export interface RunServices {
  readonly handleJob: HandleJob;
  openCoordinator(entry: RunnerConfig, meter: EntryMeter): Coordinator;
  openExecutor(entry: RunnerConfig, config: Config): Executor;
  hasRoom(): Promise<boolean>;
  isPending(origin: string, jobId: string): boolean;
  /** A new configuration is in force: limits of disk space and the like. */
  reconfigure?(config: Config): void;
  /** Ends what works in the background. What is under way may finish until the signal fires; everything is on disk. */
  close(signal: AbortSignal): Promise<void>;
}

/** Changes of the configuration file, and loading it on demand. */
export interface ConfigChanges extends AsyncIterable<{ readonly config: Config } | { readonly error: unknown }> {
  /** Load now, changed or not: yields like any change. */
  reload(): void;
}

export interface RunDeps {
  /** Such as `2.0.0 (1a2b3c4d)`. */
  readonly version: string;
  readonly log: RunnerLog;
  readonly metrics: Metrics;
  readonly notifier: Notifier;
  /** @throws {ConfigError} */
  loadConfig(file: string): Promise<Config>;
  watchConfig(file: string, signal: AbortSignal): ConfigChanges;
  /**
   * @param stopping fires when jobs shall end, also while this is still at work
   * @throws {ConfigError} the state directory cannot be used
   */
  openServices(config: Config, stopping: AbortSignal): Promise<RunServices>;
  readonly timing?: PollTiming;
}

/**
 * `alloy-runner run`: works on jobs until a signal ends it. SIGQUIT waits for running jobs; SIGTERM and SIGINT end them,
 * within `shutdown_timeout`; another one ends the process at once. SIGHUP loads the configuration, SIGUSR1 lists the jobs.
 * @returns the exit status; the caller ends the process with it, as something may still be under way after a second signal
 * @throws {CommandError} it cannot be started at all
 */
export async function runCommand(options: RunOptions, deps: RunDeps): Promise<number> {
  const { log, notifier } = deps;
  const draining = new AbortController();
  const stopping = new AbortController();
  let follower: ConfigChanges | undefined;
  let supervisor: Supervisor | undefined;
  const hurried = Promise.withResolvers<number>();

  const onWish = (wish: Wish, signal: string): void => {
    const jobs = supervisor?.jobs.length ?? 0;
    if (wish === "show") showJobs(log, supervisor);
    else if (wish === "reload") {
      log.info("loading the configuration", { signal });
      if (follower !== undefined) notifier.reloading();
      follower?.reload();
    } else if (stopping.signal.aborted) {
      log.error("ending at once; what was not reported yet is reported at the next start", { signal, jobs });
      hurried.resolve(1);
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
  using _signals = listenToSignals(onWish);
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
    const started = await start(options, deps, stopping.signal).catch((error) => {
      if (!stopping.signal.aborted) throw error;
      log.info("stopped while starting", { problem: describeError(error) });
      return null;
    });
    if (started === null) return 0;
    supervisor = started.supervisor;
    const watching = new AbortController();
    let followed: Promise<void> | undefined;
    if (!draining.signal.aborted) {
      started.supervisor.apply(started.config);
      deps.metrics.processState("running");
      started.setReady(true);
      notifier.ready(statusOf(started.supervisor));
      follower = deps.watchConfig(started.file, watching.signal);
      followed = follow(follower, started, options, deps, watching.signal);
      await fired(draining.signal);
    }
    started.setReady(false);
    watching.abort();
    return end(started, followed, deps, stopping.signal);
  };
  // Listeners for signals keep no process alive, and a runner without entries has nothing else.
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    return await Promise.race([work(), hurried.promise]);
  } finally {
    clearInterval(alive);
    await log.flush(1000);
  }
}

function showJobs(log: RunnerLog, supervisor: Supervisor | undefined): void {
  const jobs = supervisor?.jobs ?? [];
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
