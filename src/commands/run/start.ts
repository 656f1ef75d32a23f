import { resolve } from "node:path";
import { briefReasonOf, takesJobs } from "../../board/reason.ts";
import type { Config } from "../../config/config.ts";
import type { Reloaded } from "../../control/steering.ts";
import { CommandError, ConfigError, describeError, problemLine } from "../../errors.ts";
import type { MetricsServer } from "../../metrics/server.ts";
import { createAdmission } from "../../poll/admission/admission.ts";
import { createSupervisor, type Supervisor } from "../../poll/supervisor.ts";
import type { TokenKeeper } from "../../tokens/keeper.ts";
import type { ConfigChanges, RunDeps, RunOptions, RunServices } from "./deps.ts";

/** A runner that is put together and not polling yet. */
export interface Started {
  readonly file: string;
  config: Config;
  readonly services: RunServices;
  readonly supervisor: Supervisor;
  /** Functions that are called with the result of each reload. */
  readonly onReload: Set<(reloaded: Reloaded) => void>;
  /** What else takes each configuration that comes into force. */
  readonly onConfig: Set<(config: Config) => Promise<void>>;
  /** Looks after tokens from now on; `reload` loads the file, which has a new one. */
  keepTokens(reload: () => void): Promise<void>;
  /** Has the metrics where this configuration, or the command line, wants them. */
  serve(config: Config): Promise<void>;
  stopServing(): Promise<void>;
  setReady(is: boolean): void;
}

/** What ends a runner. */
export interface Ends {
  /** It is told to stop. */
  readonly stopping: AbortSignal;
  /** Jobs that can be are left to its next process. */
  readonly handOver: AbortSignal;
}

/**
 * From the command line to a runner that could poll: directory, configuration, metrics address, services.
 * @throws {CommandError} what is wrong with them
 */
export async function start(options: RunOptions, deps: RunDeps, { stopping, handOver }: Ends): Promise<Started> {
  const { log, metrics } = deps;
  // The path is resolved before the directory changes: `--config x.toml` means the file that the person sees.
  const file = resolve(options.config);
  log.info(`alloy-runner ${deps.version} starts`, { config: file, pid: process.pid });
  if (process.platform !== "win32") {
    if (process.getuid?.() === 0) log.info("running in system mode");
    else log.info("running in user mode: jobs run as this user; use sudo for system mode");
  }
  if (options.syslog)
    log.info("--syslog: the log goes to stderr; a service manager such as systemd keeps it from there");
  if (options.workingDirectory !== undefined) changeDirectory(options.workingDirectory);

  const load = async (): Promise<Config> =>
    await deps.loadConfig(file).catch((error) => {
      if (error instanceof ConfigError) throw new CommandError(error.message, { cause: error });
      throw error;
    });
  let config = await load();
  adopt(config, options, deps);

  let ready = false;
  let server: MetricsServer | undefined;
  let debugOpen = false;
  const serve = async (wanted: Config): Promise<void> => {
    const address = options.listenAddress ?? wanted.metricsAddress;
    debugOpen = wanted.debugEndpoints;
    if (server === undefined && address === "") return;
    if (server === undefined) {
      // Imported only here, because most runners serve no metrics.
      const { openMetricsServer } = await import("../../metrics/server.ts");
      server = await openMetricsServer(address, {
        contentType: metrics.contentType,
        render: () => metrics.render(),
        ready: () => ready,
        entries: () =>
          deps.board.runners().map(({ name, activity }) => ({
            name,
            able: takesJobs(activity),
            reason: briefReasonOf(activity, Date.now()),
          })),
        debug: { jobs: deps.board.jobs, state: () => metrics.state, open: () => debugOpen },
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
    await serve(config);
    services = await deps.openServices(config, stopping);
    log.info("jobs are kept on disk until the coordinator has them", { state_dir: config.stateDir });
    if (await services.finishExchanges?.()) {
      config = await load();
      services.reconfigure?.(config);
    }
  } catch (error) {
    await server?.close();
    if (error instanceof ConfigError) throw new CommandError(error.message, { cause: error });
    throw error;
  }
  const onConfig = new Set<(config: Config) => Promise<void>>();
  let tokens: TokenKeeper | undefined;
  const supervisor: Supervisor = createSupervisor(
    {
      handleJob: services.handleJob,
      openCoordinator: (entry, meter) => services.openCoordinator(entry, meter),
      openExecutor: (entry, from, meter) => services.openExecutor(entry, from, meter),
      admission: createAdmission({
        hasRoom: () => services.hasRoom(),
        disk: () => services.disk(),
        onFull: () => supervisor.pressForRoom(),
        onRoom: metrics.pollingPaused,
        log,
      }),
      ...(services.offerSession === undefined ? {} : { offerSession: services.offerSession }),
      isPending: (origin, jobId) => services.isPending(origin, jobId),
      isChanging: (entry) => tokens?.isChanging(entry) ?? false,
      board: deps.board,
      handOver,
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
    onReload: new Set(),
    onConfig,
    async keepTokens(reload) {
      tokens = services.keepTokens?.({ about: supervisor.about, onExchanged: reload });
      if (tokens === undefined) return;
      onConfig.add(tokens.take);
      await tokens.take(config);
    },
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

/** Applies the parts of a configuration that do not concern polling. */
function adopt(config: Config, options: RunOptions, { log }: RunDeps): void {
  log.setLevel(options.logLevel ?? config.logLevel ?? "info");
  const format = options.logFormat ?? config.logFormat;
  if (format !== undefined) log.setFormat(format);
  for (const warning of config.warnings) log.warn(warning);
  for (const entry of config.broken) {
    log.error(
      "an entry cannot be used: no jobs are asked for with it until it is mended; the others are not affected",
      {
        ...(entry.id === "" ? {} : { runner: entry.id }),
        name: entry.name,
        line: entry.line,
        problem: entry.problems.map(problemLine).join("; "),
      },
    );
  }
  if (config.runners.length === 0 && config.broken.length > 0) {
    log.error("no runner can be used; the file is watched, and entries that are mended in it are picked up at once", {
      config: config.file,
    });
  } else if (config.runners.length === 0) {
    log.warn('no runner is configured: add one with "alloy-runner register"; it is picked up at once', {
      config: config.file,
    });
  }
  log.info("configuration in force", {
    runners: config.runners.length,
    ...(config.broken.length === 0 ? {} : { unusable: config.broken.length }),
    concurrent: config.concurrent,
  });
}

/** Takes each good version of the configuration; a broken one leaves the old one in force. */
export async function follow(
  changes: ConfigChanges,
  started: Started,
  options: RunOptions,
  deps: RunDeps,
  signal: AbortSignal,
): Promise<void> {
  const { log, metrics, notifier } = deps;
  const { stateDir, sessionServer } = started.config;
  const settle = (reloaded: Reloaded): void => {
    for (const told of started.onReload) told(reloaded);
    started.onReload.clear();
  };
  try {
    for await (const change of changes) {
      if ("error" in change) {
        metrics.configRefused();
        log.error("the new configuration cannot be used; the old one stays in force", {
          problem: describeError(change.error),
        });
        settle({
          problem: `The new configuration cannot be used, the old one stays in force: ${describeError(change.error)}`,
        });
        notifier.ready(statusOf(started));
        continue;
      }
      const { config } = change;
      if (config.stateDir !== stateDir && config.stateDir !== started.config.stateDir) {
        log.warn("the new state_dir is used after a restart", { state_dir: config.stateDir, until_then: stateDir });
      }
      if (JSON.stringify(config.sessionServer) !== JSON.stringify(sessionServer)) {
        log.warn("the new [session_server] is used after a restart");
      }
      started.config = config;
      adopt(config, options, deps);
      started.services.reconfigure?.(config);
      started.supervisor.apply(config);
      await started.serve(config).catch((error) => {
        log.error("the metrics stay where they are", { problem: describeError(error) });
      });
      for (const take of started.onConfig) await take(config);
      notifier.ready(statusOf(started));
      settle({ status: statusOf(started) });
    }
  } catch (error) {
    if (signal.aborted) return;
    log.error("changes of the configuration are not followed any more; restart the runner to load it", {
      problem: describeError(error),
    });
  }
}

/** The status line for the service manager. */
export function statusOf({
  supervisor: { polling },
  config: { broken },
}: Pick<Started, "supervisor" | "config">): string {
  const entries = broken.length === 1 ? "1 entry" : `${broken.length} entries`;
  const unusable = broken.length === 0 ? "" : `${entries} of the configuration cannot be used`;
  if (polling === 0) return unusable || "no runner is configured";
  const asking = `asking for jobs of ${polling} ${polling === 1 ? "runner" : "runners"}`;
  return unusable === "" ? asking : `${asking}; ${unusable}`;
}
