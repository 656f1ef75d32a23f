import { createBoard } from "../board/board.ts";
import { type CommandContext, configFileOf, loadOptions } from "../commands/context.ts";
import type { LogSettings } from "../commands/log-options.ts";
import { type FlagValues, textOf } from "../commands/register/runner-flags.ts";
import type { RunDeps, RunOptions } from "../commands/run/deps.ts";
import { runCommand } from "../commands/run/run.ts";
import { stopHandsOver } from "../commands/run/signals.ts";
import { createSingle } from "../commands/run/single.ts";
import type { Config } from "../config/config.ts";
import { watchConfig } from "../config/file/watch.ts";
import { type LoadOptions, loadConfig } from "../config/load.ts";
import { createLog, leadsToJournal, streamOutput } from "../log.ts";
import { createMetrics } from "../metrics/metrics.ts";
import { openNotifier } from "../notify.ts";
import { hearOthers } from "../quiet-runtime.ts";
import { createExchanges, type Exchanges } from "../tokens/exchanges.ts";
import { revision, runtime, version } from "../version.ts";
import { openServices } from "./services/services.ts";

/** `run`. @returns the exit status */
export async function runAgent(values: FlagValues, context: CommandContext, logging: LogSettings): Promise<number> {
  const exchanges = createExchanges();
  const deps = createDeps(context, logging, {
    user: textOf(values, "user"),
    load: async (file, options) => await loadConfig(file, { ...options, exchanged: exchanges.latest }),
    exchanges,
  });
  const file = configFileOf(textOf(values, "config"), context);
  return await runCommand(runOptions(values, logging, file, context), deps);
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
  return await runCommand({ ...runOptions(values, logging, single.file, context), drainOn: single.done }, counted);
}

function runOptions(
  values: FlagValues,
  logging: LogSettings,
  config: string,
  { env }: Pick<CommandContext, "env">,
): RunOptions {
  const directory = textOf(values, "working-directory");
  return {
    config,
    workingDirectory: directory,
    syslog: values.syslog === true,
    stopHandsOver: stopHandsOver(env),
    ...(values.wishesOnStdin === true ? { wishes: process.stdin } : {}),
    listenAddress: textOf(values, "listen-address") ?? textOf(values, "metrics-server"),
    logLevel: logging.level,
    logFormat: logging.format,
  };
}

interface Source {
  readonly user: string | undefined;
  load(file: string, options: LoadOptions): Promise<Config>;
  /** Tokens are exchanged before they expire, and the file gets the new ones. */
  readonly exchanges?: Exchanges;
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
  metrics.observe({ jobs: board.jobs, runners: board.runners });
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
    openServices: (config, stopping) => {
      const { exchanges } = source;
      return openServices(config, { context, log, metrics, ...(exchanges && { exchanges }) }, stopping);
    },
  };
}
