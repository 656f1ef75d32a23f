import { resolve } from "node:path";
import type { Config, RunnerConfig } from "../config/config.ts";
import type { Coordinator } from "../coordinator/contract.ts";
import { CommandError, ConfigError, describeError, Stop } from "../errors.ts";
import type { Executor } from "../executor.ts";
import type { LogFormat, LogLevel, RunnerLog } from "../log.ts";
import type { EntryMeter, Metrics } from "../metrics.ts";
import type { MetricsServer } from "../metrics-server.ts";
import type { Notifier } from "../notify.ts";
import type { PollTiming } from "../poll/pace.ts";
import type { HandleJob } from "../poll/received.ts";
import { createSupervisor, type Supervisor } from "../poll/supervisor.ts";
import { deadline, never } from "../time.ts";
import { listenToAccidents, listenToSignals, type Wish } from "./run-signals.ts";

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

/** How long reports under way may take once the last job has ended. */
const LAST_REPORTS_MS = 10_000;

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

interface Started {
  readonly file: string;
  config: Config;
  readonly services: RunServices;
  readonly supervisor: Supervisor;
  serve(address: string): Promise<void>;
  stopServing(): Promise<void>;
  setReady(is: boolean): void;
}

async function start(options: RunOptions, deps: RunDeps, stopping: AbortSignal): Promise<Started> {
  const { log, metrics } = deps;
  // Before the directory changes: `--config x.toml` means the one that the person sees.
  const file = resolve(options.config);
  log.info(`alloy-runner ${deps.version} starts`, { config: file, pid: process.pid });
  if (process.platform !== "win32") {
    if (process.getuid?.() === 0) log.info("running in system mode");
    else log.info("running in user mode: jobs run as this user; use sudo for system mode");
  }
  if (options.syslog)
    log.info("--syslog: the log goes to stderr; a service manager such as systemd keeps it from there");
  if (options.workingDirectory !== undefined) changeDirectory(options.workingDirectory);

  const config = await deps.loadConfig(file).catch((error) => {
    if (error instanceof ConfigError) throw new CommandError(error.message, { cause: error });
    throw error;
  });
  adopt(config, options, deps);

  let ready = false;
  let server: MetricsServer | undefined;
  const serve = async (address: string): Promise<void> => {
    if (server === undefined && address === "") return;
    if (server === undefined) {
      // Loaded where it is used: most runners serve no metrics.
      const { openMetricsServer } = await import("../metrics-server.ts");
      server = await openMetricsServer(address, {
        contentType: metrics.contentType,
        render: () => metrics.render(),
        ready: () => ready,
      });
    } else {
      const before = server.url;
      await server.move(address);
      if (server.url === before) return;
    }
    if (server.url !== "") log.info("serving metrics", { url: `${server.url}/metrics` });
  };

  let services: RunServices;
  try {
    await serve(options.listenAddress ?? config.metricsAddress);
    services = await deps.openServices(config, stopping);
  } catch (error) {
    await server?.close();
    if (error instanceof ConfigError) throw new CommandError(error.message, { cause: error });
    throw error;
  }
  const supervisor = createSupervisor(
    {
      handleJob: services.handleJob,
      openCoordinator: (entry, meter) => services.openCoordinator(entry, meter),
      openExecutor: (entry, from) => services.openExecutor(entry, from),
      hasRoom: () => services.hasRoom(),
      isPending: (origin, jobId) => services.isPending(origin, jobId),
      metrics,
      log,
      ...(deps.timing === undefined ? {} : { timing: deps.timing }),
    },
    stopping,
  );
  return {
    file,
    config,
    services,
    supervisor,
    serve,
    stopServing: async () => server?.close(),
    setReady: (is) => {
      ready = is;
    },
  };
}

function changeDirectory(directory: string): void {
  try {
    process.chdir(directory);
  } catch (error) {
    throw new CommandError(
      `Cannot change into --working-directory "${directory}": ${describeError(error)}. Create it, or name one that exists`,
      { cause: error },
    );
  }
}

/** What a configuration changes outside the polling. */
function adopt(config: Config, options: RunOptions, { log }: RunDeps): void {
  log.setLevel(options.logLevel ?? config.logLevel ?? "info");
  const format = options.logFormat ?? config.logFormat;
  if (format !== undefined) log.setFormat(format);
  for (const warning of config.warnings) log.warn(warning);
  if (config.runners.length === 0) {
    log.warn('no runner is configured: add one with "alloy-runner register"; it is picked up at once', {
      config: config.file,
    });
  }
  log.info("configuration in force", { runners: config.runners.length, concurrent: config.concurrent });
}

/** Takes each good version of the configuration; a broken one leaves the old one in force. */
async function follow(
  changes: ConfigChanges,
  started: Started,
  options: RunOptions,
  deps: RunDeps,
  signal: AbortSignal,
): Promise<void> {
  const { log, metrics, notifier } = deps;
  try {
    for await (const change of changes) {
      if ("error" in change) {
        metrics.configRefused();
        log.error("the new configuration cannot be used; the old one stays in force", {
          problem: describeError(change.error),
        });
        notifier.ready(statusOf(started.supervisor));
        continue;
      }
      const { config } = change;
      if (config.stateDir !== started.config.stateDir) {
        log.warn("a new state_dir is used after a restart", { state_dir: started.config.stateDir });
      }
      started.config = config;
      adopt(config, options, deps);
      started.services.reconfigure?.(config);
      started.supervisor.apply(config);
      await started.serve(options.listenAddress ?? config.metricsAddress).catch((error) => {
        log.error("the metrics stay where they are", { problem: describeError(error) });
      });
      notifier.ready(statusOf(started.supervisor));
    }
  } catch (error) {
    if (signal.aborted) return;
    log.error("changes of the configuration are not followed any more; restart the runner to load it", {
      problem: describeError(error),
    });
  }
}

/** Waits for the jobs, bounded once `stopping` fires. @returns the exit status */
async function end(
  started: Started,
  followed: Promise<void> | undefined,
  { log, metrics, notifier }: RunDeps,
  stopping: AbortSignal,
): Promise<number> {
  const { supervisor, services } = started;
  const { shutdownTimeoutMs } = started.config;
  const count = supervisor.jobs.length;
  metrics.processState(stopping.aborted ? "forceful-shutdown" : "graceful-shutdown");
  notifier.stopping(`ending, ${count} ${count === 1 ? "job" : "jobs"} left`);

  let stoppedAt: number | undefined;
  const finish = async (): Promise<number> => {
    await supervisor.drain();
    // Told to stop, it must be over before `shutdown_timeout`; what has not arrived by then is sent at the next start.
    const leftMs =
      stoppedAt === undefined ? Number.POSITIVE_INFINITY : stoppedAt + shutdownTimeoutMs - performance.now();
    const limitMs = Math.max(Math.min(LAST_REPORTS_MS, leftMs - 1000), 100);
    using limit = deadline(never, limitMs, new Stop("shutting_down", "the runner ends"));
    await Promise.race([followed, fired(limit.signal)]);
    await services.close(limit.signal);
    await started.stopServing();
    await notifier.close();
    log.info("ended");
    return 0;
  };
  fired(stopping).then(() => {
    stoppedAt = performance.now();
  });
  const finished = finish();
  const giveUp = async (): Promise<number> => {
    await Promise.race([fired(stopping), finished]);
    if (!stopping.aborted) return finished;
    metrics.processState("forceful-shutdown");
    using limit = deadline(never, shutdownTimeoutMs, new Stop("shutting_down", "shutdown_timeout"));
    await Promise.race([fired(limit.signal), finished]);
    if (!limit.signal.aborted) return finished;
    log.error("shutdown_timeout has passed; what is left is reported at the next start", {
      seconds: shutdownTimeoutMs / 1000,
      jobs: supervisor.jobs.length,
    });
    return 1;
  };
  return Promise.race([finished, giveUp()]);
}

function statusOf({ polling }: Supervisor): string {
  return polling === 0
    ? "no runner is configured"
    : `asking for jobs of ${polling} ${polling === 1 ? "runner" : "runners"}`;
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

function fired(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
