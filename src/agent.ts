import { join } from "node:path";
import { findShellWriter } from "../shells/index.ts";
import { createBoard } from "./board/board.ts";
import { type CommandContext, configFileOf, loadOptions } from "./commands/context.ts";
import type { LogSettings } from "./commands/log-options.ts";
import { runCommand } from "./commands/run.ts";
import type { RunDeps, RunOptions, RunServices } from "./commands/run-deps.ts";
import { createSingle } from "./commands/run-single.ts";
import { type FlagValues, textOf } from "./commands/runner-flags.ts";
import type { Config } from "./config/config.ts";
import { type LoadOptions, loadConfig } from "./config/load.ts";
import { watchConfig } from "./config/watch.ts";
import { openCoordinator } from "./coordinator/client.ts";
import { describeError } from "./errors.ts";
import type { Executor } from "./executor.ts";
import type { HandleTiming } from "./job/life/deps.ts";
import { createJobHandler } from "./job/life/handle.ts";
import type { StoredJob } from "./journal/contract.ts";
import { createDiskGauge } from "./journal/disk.ts";
import { openJournal } from "./journal/journal.ts";
import { createOutbox } from "./journal/outbox.ts";
import { recoverJobs } from "./journal/recover.ts";
import { openStateDir } from "./journal/state-dir.ts";
import { createLog, leadsToJournal, type RunnerLog, streamOutput } from "./log.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { openNotifier } from "./notify.ts";
import { hearOthers } from "./quiet-runtime.ts";
import { createCaches } from "./transfer/open-caches.ts";
import { revision, runtime, version } from "./version.ts";

/** The agent put together: state, connections, executors and shells behind `run` and `run-single`. */

/** `run`. @returns the exit status */
export async function runAgent(values: FlagValues, context: CommandContext, logging: LogSettings): Promise<number> {
  const deps = createDeps(context, logging, {
    user: textOf(values, "user"),
    load: async (file, options) => await loadConfig(file, options),
  });
  return await runCommand(runOptions(values, logging, configFileOf(textOf(values, "config"), context)), deps);
}

/** `run-single`: the same agent with one entry, which ends by itself after so many jobs or so much waiting. */
export async function runSingle(values: FlagValues, context: CommandContext, logging: LogSettings): Promise<number> {
  const single = createSingle(values, context);
  const deps = createDeps(context, logging, { user: textOf(values, "user"), load: single.load });
  const counted: RunDeps = {
    ...deps,
    watchConfig: (_, signal) => single.unchanging(signal),
    async openServices(config, stopping) {
      const services = await deps.openServices(config, stopping);
      return { ...services, handleJob: single.count(services.handleJob) };
    },
  };
  return await runCommand({ ...runOptions(values, logging, single.file), drainOn: single.done }, counted);
}

function runOptions(values: FlagValues, logging: LogSettings, config: string): RunOptions {
  const directory = textOf(values, "working-directory");
  return {
    config,
    workingDirectory: directory,
    syslog: values.syslog === true,
    ...(values.wishesOnStdin === true ? { wishes: process.stdin } : {}),
    listenAddress: textOf(values, "listen-address") ?? textOf(values, "metrics-server"),
    logLevel: logging.level,
    logFormat: logging.format,
  };
}

interface Source {
  readonly user: string | undefined;
  load(file: string, options: LoadOptions): Promise<Config>;
}

function createDeps(context: CommandContext, logging: LogSettings, source: Source): RunDeps {
  const { env } = context;
  const { systemId } = context.coordinator;
  const metrics = createMetrics({ version, revision, ...(systemId === undefined ? {} : { systemId }) });
  const journal = leadsToJournal(env, 2);
  const log = createLog({
    level: logging.level ?? "info",
    format: logging.format ?? "text",
    output: streamOutput(
      process.stderr,
      (count) => `${count} lines of the log were dropped: stderr was not read in time\n`,
    ),
    colors: process.stderr.isTTY === true && !env.NO_COLOR,
    journal,
    onEntry: (level) => metrics.logged(level),
  });
  hearOthers((words) => log.debug("said by the runtime or a library", { words }));
  const board = createBoard();
  metrics.observe({ jobs: board.jobs });
  let current: Config | undefined;
  const load = async (file: string): Promise<Config> => {
    // The directory that `--working-directory` led to is where relative paths of the file begin.
    const options = loadOptions(context, process.cwd());
    current = await source.load(file, { ...options, userOverride: source.user });
    return current;
  };
  return {
    version: `${version} (${revision}; ${runtime})`,
    log,
    metrics,
    board,
    notifier: openNotifier({ env, pid: process.pid, log }),
    loadConfig: load,
    watchConfig: (file, signal) => watchConfig(file, () => load(file), signal, { current }),
    openServices: (config, stopping) => openServices(config, context, log, metrics, stopping),
  };
}

/** What is different where the coordinator is part of this process. */
export interface Tuning {
  /** Stands for the coordinator in the names of local caches, as its own address changes. */
  readonly cachesOf?: URL;
  readonly timing?: HandleTiming;
}

/** Caches are removed beyond what must be, so that the next line of a job does not make it necessary again. */
const SLACK_BYTES = 64 * 1024 * 1024;

/** Journal, outbox, connections and caches of one configuration; what dead jobs of its state directory left is removed. */
export async function openServices(
  first: Config,
  context: CommandContext,
  log: RunnerLog,
  metrics: Metrics,
  stopping: AbortSignal,
  tuning: Tuning = {},
): Promise<RunServices> {
  let config = first;
  const { connections } = context.coordinator;
  connections.limitAge(config.connectionMaxAgeMs);
  const stateDir = await openStateDir({ path: config.stateDir, log }, stopping);
  const workingDirectory = process.cwd();
  const journal = await openJournal({ stateDir, log });
  const outbox = createOutbox({
    openCoordinator: (runner) =>
      openCoordinator(
        {
          url: new URL(runner.url),
          token: runner.token,
          tlsCaFile: runner.tlsCaFile ?? undefined,
          tlsCertFile: runner.tlsCertFile ?? undefined,
          tlsKeyFile: runner.tlsKeyFile ?? undefined,
          certsDir: runner.certsDir,
        },
        context.coordinator,
      ),
    log,
    maxAgeMs: () => config.outboxMaxAgeMs,
  });
  const caches = createCaches({
    connections,
    userAgent: context.coordinator.identity.userAgent,
    workingDirectory,
    fallbackDir: join(stateDir.path, "caches"),
    scratchDir: stateDir.scratchDir,
    otherUser: () => context.uid === 0 && Boolean(config.user),
    minFreeBytes: () => config.minFreeDiskBytes,
    log,
  });
  const disk = createDiskGauge({
    path: stateDir.path,
    minFreeBytes: () => config.minFreeDiskBytes,
    makeRoom: async (least) => {
      const make = async (bytes: number): Promise<number> =>
        await caches.makeRoom(config.runners, stateDir.path, bytes);
      const removed = (await make(least + SLACK_BYTES)) || (await make(least));
      if (removed > 0) log.warn("caches were removed, as the disk of state_dir was too full", { bytes: removed });
      return removed > 0;
    },
  });
  metrics.observe({
    outbox: () => {
      const { entries, oldestSeconds, bytes } = outbox.gauges();
      return { entries, oldestAgeSeconds: oldestSeconds, bytes };
    },
    stateFreeBytes: async () => {
      await disk.hasRoom();
      return disk.freeBytes ?? Number.NaN;
    },
  });

  /** Cleans up after a dead job: with its entry's settings where the entry is still there, else with none. */
  const cleaners = new Map<string, Promise<Executor | null>>();
  const executorFor = (stored: StoredJob): Promise<Executor | null> => {
    const key = `${stored.runner.id} ${stored.executor}`;
    const cleaner = cleaners.get(key) ?? openCleaner(stored);
    cleaners.set(key, cleaner);
    // Tried anew for the next job, or the next time.
    cleaner.catch(() => cleaners.delete(key));
    return cleaner;
  };
  const openCleaner = async (stored: StoredJob): Promise<Executor | null> => {
    const around = { log, workingDirectory, user: config.user, scratchDir: stateDir.scratchDir };
    const entry = config.runners.find(
      (runner) => runner.id === stored.runner.id && runner.executor === stored.executor,
    );
    if (entry !== undefined) return entry.openExecutor(around);
    if (!context.catalog.names.includes(stored.executor)) return null;
    const definition = await context.catalog.load(stored.executor);
    return definition.create(
      {},
      {
        ...around,
        buildsDir: undefined,
        cacheDir: undefined,
        shell: undefined,
        inheritEnvironment: [],
        killLeftovers: true,
        killGraceMs: 10_000,
      },
    );
  };
  const recovering = new AbortController();
  const recovery = recoverJobs({ journal, outbox, executorFor, log }, recovering.signal)
    .catch((error: unknown) => {
      log.error("cannot clean up after the last runner process; going on without", { problem: describeError(error) });
    })
    .then(() => closeAll(cleaners.values(), log));

  const handler = createJobHandler({
    journal,
    outbox,
    findWriter: findShellWriter,
    openCaches: (entry, lifeMs) => caches.open({ ...entry, url: tuning.cachesOf ?? entry.url }, lifeMs),
    ...(tuning.timing === undefined ? {} : { timing: tuning.timing }),
    scratchDir: stateDir.scratchDir,
    minFreeBytes: () => config.minFreeDiskBytes,
    identity: {
      version,
      revision,
      architecture: `${context.coordinator.identity.platform}/${context.coordinator.identity.architecture}`,
    },
    log,
  });
  return {
    handleJob: handler,
    openCoordinator: (entry, meter) => {
      const coordinator = openCoordinator(entry, {
        ...context.coordinator,
        onRequest: (endpoint, method, status, durationMs) => {
          meter.request(endpoint, method, status, durationMs);
          if (status >= 200 && status < 500 && status !== 429) outbox.answered(coordinator.origin);
        },
      });
      return coordinator;
    },
    openExecutor: (entry, from) =>
      entry.openExecutor({ log, workingDirectory, user: from.user, scratchDir: stateDir.scratchDir }),
    hasRoom: () => disk.hasRoom(),
    isPending: (origin, jobId) => outbox.has(origin, jobId),
    reconfigure: (next) => {
      config = next;
      connections.limitAge(config.connectionMaxAgeMs);
    },
    async close(signal) {
      recovering.abort();
      await recovery;
      await outbox.close(signal);
      await journal.close();
      await stateDir.close();
    },
  };
}

async function closeAll(executors: Iterable<Promise<Executor | null>>, log: RunnerLog): Promise<void> {
  const closing = [...executors].map(async (executor) => await (await executor)?.close());
  for (const result of await Promise.allSettled(closing)) {
    if (result.status === "rejected")
      log.warn("cannot close what cleaned up after dead jobs", { problem: describeError(result.reason) });
  }
}
