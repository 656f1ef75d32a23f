import type { Config, RunnerConfig } from "../../../config/config.ts";
import { runnerId, shortToken } from "../../../config/identity.ts";
import { demandSound, loadConfig } from "../../../config/load.ts";
import { CommandError, type ConfigProblem } from "../../../errors.ts";
import type { EntrySettings } from "../../../executor/deps.ts";
import type { ExecutorCatalog } from "../../../executor/executor.ts";
import { type CommandContext, configFileOf, loadOptions } from "../../context.ts";
import { entryKeys, type FlagValues, textOf } from "../../register/runner-flags.ts";
import { typedConfig } from "../../typed-entry.ts";
import { describeRunner } from "../../verify.ts";

export interface ExecConfigOptions {
  readonly values: FlagValues;
  /** The executor of the Go runner's way to write the command (`exec docker JOB`); it wins over `--executor`. */
  readonly executor: string | undefined;
  readonly parallel: number;
  /** The address of the embedded coordinator, by which the runner reaches it. */
  readonly url: string;
  readonly token: string;
  readonly stateDir: string;
  /** Where working copies on this machine are. In containers and on other hosts they are where they always are. */
  readonly buildsDir: string;
  readonly cachesDir: string;
  /** Time from SIGTERM to SIGKILL, instead of the executor's own. */
  readonly killGraceMs?: number;
  /** Added to what the entry sets. */
  readonly environment: RunnerConfig["environment"];
  /** What jobs on this machine copy instead of fetching it. */
  readonly templateDir: string | undefined;
}

const FLAGS = "flags of exec";
/** Limit of all caches together if the entry sets none: nobody else limits them. */
const CACHES_BYTES = 10 * 1024 ** 3;

/**
 * A configuration of one entry, as flags or `--config` with `--runner` describe it, that works for the embedded coordinator.
 * State, working copies and caches are those of `exec`: nothing of a service that uses the same entry is touched.
 * @throws {ConfigError} a configuration that cannot be used
 * @throws {CommandError} flags that cannot be used
 */
export async function execConfig(options: ExecConfigOptions, context: CommandContext): Promise<Config> {
  const { values, parallel, stateDir, cachesDir, environment } = options;
  const fromFile = textOf(values, "config");
  const around: CommandContext = { ...context, catalog: ofThisRun(context.catalog, options) };
  const config =
    fromFile === undefined ? await fromFlags(options, around) : await fromConfig(fromFile, options, around);
  const [entry] = config.runners;
  if (entry === undefined) throw new CommandError("There is no runner to work with");
  const { url, token } = options;
  const own: RunnerConfig = {
    ...entry,
    url: new URL(url),
    token,
    id: runnerId(token),
    shortToken: shortToken(token),
    limit: Number.POSITIVE_INFINITY,
    requestConcurrency: 1,
    strictCheckInterval: false,
    tlsCaFile: undefined,
    tlsCertFile: undefined,
    tlsKeyFile: undefined,
    cloneUrl: "",
    cacheDir: textOf(values, "cache-dir") ?? cachesDir,
    // Jobs that are tried on this machine must not write caches that a server's pipelines use.
    cache: {
      ...entry.cache,
      maxBytes: Math.min(entry.cache.maxBytes ?? CACHES_BYTES, CACHES_BYTES),
      bucket: fromFile === undefined ? entry.cache.bucket : null,
    },
    environment: [...entry.environment, ...environment],
    plainLineEnds: true,
    // Working copies are where `exec` finds and removes them.
    customBuildDir: undefined,
    // Ctrl-C means the end, and nothing of it stays.
    durable: false,
    // Nobody reads this trace but the person who waits for it.
    featureFlags: { ...entry.featureFlags, FF_TIMESTAMPS: false },
    ...(options.templateDir !== undefined && isHere(entry.executor, context)
      ? { sourcesTemplate: options.templateDir }
      : {}),
    fingerprint: "exec",
  };
  return {
    ...config,
    concurrent: parallel,
    checkIntervalMs: 1000,
    metricsAddress: "",
    web: null,
    sessionServer: null,
    // Jobs run as the person who started this.
    user: undefined,
    stateDir,
    runners: [own],
    broken: [],
  };
}

function isHere(executor: string, { catalog }: CommandContext): boolean {
  return catalog.words.some(({ name, worksOnThisMachine }) => name === executor && worksOnThisMachine);
}

/**
 * The settings of this run: nothing is kept between jobs, and working copies on this machine are made in the run's own
 * directory.
 */
function ofThisRun(catalog: ExecutorCatalog, { buildsDir, killGraceMs }: ExecConfigOptions): ExecutorCatalog {
  return {
    ...catalog,
    async load(name) {
      const definition = await catalog.load(name);
      const own: Partial<EntrySettings> = {
        ephemeral: true,
        ...(definition.worksOnThisMachine ? { buildsDir } : {}),
        ...(killGraceMs === undefined ? {} : { killGraceMs }),
      };
      return {
        ...definition,
        create: (tables, deps) => definition.create(tables, { ...deps, entry: { ...deps.entry, ...own } }),
      };
    },
  };
}

async function fromFlags(
  { values, executor, url, token }: ExecConfigOptions,
  context: CommandContext,
): Promise<Config> {
  if (textOf(values, "runner") !== undefined)
    throw new CommandError("--runner names an entry of a configuration file: give the file, too, with --config");
  const named = executor ?? textOf(values, "executor") ?? "shell";
  const entry = { name: "exec", url, token, executor: named, ...entryKeys(values, context.catalog.words, named) };
  return await typedConfig({ entry, options: loadOptions(context), file: FLAGS, say: inTermsOfFlags });
}

/** Rewords a mistake in a file for somebody who has typed flags. */
function inTermsOfFlags({ text, missing }: ConfigProblem): string {
  return missing === undefined
    ? text
    : `--executor ${missing.executor} needs to know more: give --${missing.table}-… flags (see exec --help), or an entry that has it all with --config FILE and --runner NAME`;
}

async function fromConfig(given: string, options: ExecConfigOptions, context: CommandContext): Promise<Config> {
  const { values, executor } = options;
  const more = [
    ...((executor ?? textOf(values, "executor")) ? ["executor"] : []),
    ...Object.keys(entryKeys(values, context.catalog.words)).filter(
      (key) => key !== "builds_dir" && key !== "cache_dir",
    ),
  ];
  if (more.length > 0) {
    throw new CommandError(
      `${more.join(", ")}: given by a flag, and --config takes it from the file. Choose one of both`,
    );
  }
  const config = await loadConfig(configFileOf(given, context), loadOptions(context));
  const name = textOf(values, "runner");
  const chosen = name === undefined ? config.runners : config.runners.filter((runner) => runner.name === name);
  if (chosen.length === 1) return { ...config, runners: chosen, broken: [] };
  // The chosen entry may exist and be broken: then its own problems are the answer.
  if (chosen.length === 0) {
    demandSound({ ...config, broken: config.broken.filter((entry) => name === undefined || entry.name === name) });
  }
  const known = config.runners.map((runner) => `  ${describeRunner(runner)}`).join("\n");
  const what =
    name === undefined
      ? "has no single runner: name one with --runner"
      : `has ${chosen.length === 0 ? "no" : "several"} runners "${name}"`;
  throw new CommandError(`${config.file} ${what}${known === "" ? "" : `; there is\n${known}`}`);
}
