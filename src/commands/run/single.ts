import { setTimeout as wait } from "node:timers/promises";
import type { Config } from "../../config/config.ts";
import { runnerId } from "../../config/identity.ts";
import { demandSound, type LoadOptions, loadConfig } from "../../config/load.ts";
import { ownStateDir } from "../../config/locations.ts";
import { CommandError, ConfigError, Stop } from "../../errors.ts";
import type { HandleJob } from "../../job/life/received.ts";
import { type CommandContext, configFileOf } from "../context.ts";
import { entryKeys, type FlagValues, textOf } from "../register/runner-flags.ts";
import { typedConfig } from "../typed-entry.ts";
import { describeRunner } from "../verify.ts";
import type { ConfigChanges } from "./deps.ts";

/** Makes a runner of one entry, which ends by itself. */
export interface Single {
  /** The name that messages use: the configuration file, or `flags of run-single`. */
  readonly file: string;
  load(file: string, options: LoadOptions): Promise<Config>;
  /** A source of changes that never has any. */
  unchanging(signal: AbortSignal): ConfigChanges;
  /** Counts jobs, and the time between them. */
  count(handle: HandleJob): HandleJob;
  /** Fires when enough jobs have run, or none has come for long enough. */
  readonly done: AbortSignal;
}

/** @throws {CommandError} a number that is none, or an entry that is not complete */
export function createSingle(values: FlagValues, context: CommandContext): Single {
  const maxBuilds = wholeNumber(values, "max-builds");
  const waitTimeoutMs = wholeNumber(values, "wait-timeout") * 1000;
  const done = new AbortController();
  let received = 0;
  let running = 0;
  let timer: NodeJS.Timeout | undefined;
  const fromFile = textOf(values, "runner");
  const file = fromFile === undefined ? "flags of run-single" : configFileOf(textOf(values, "config"), context);

  const finish = (why: string): void => {
    if (done.signal.aborted) return;
    context.say(why);
    done.abort(new Stop("shutting_down", why));
  };
  const waitForJobs = (): void => {
    clearTimeout(timer);
    if (waitTimeoutMs === 0 || running > 0) return;
    timer = setTimeout(() => finish(`no job came for ${waitTimeoutMs / 1000} s: ending`), waitTimeoutMs);
    timer.unref();
  };

  return {
    file,
    async load(_, options) {
      const config =
        fromFile === undefined ? await fromFlags(values, options) : await fromConfig(fromFile, file, options);
      waitForJobs();
      return config;
    },
    unchanging: (signal) => ({
      reload: () => context.say("run-single does not reload its configuration: start it again"),
      async *[Symbol.asyncIterator]() {
        await wait(2 ** 31 - 1, undefined, { signal, ref: false }).catch(() => {});
      },
    }),
    count: (handle) => async (job) => {
      received++;
      running++;
      clearTimeout(timer);
      if (received === maxBuilds) finish(`this is job ${received} of ${maxBuilds}: ending after it`);
      try {
        return await handle(job);
      } finally {
        running--;
        waitForJobs();
      }
    },
    done: done.signal,
  };
}

/** The configuration for one job at a time, whatever the entry says. */
function only(config: Config, name: string): Config {
  const chosen = config.runners.filter((runner) => runner.name === name);
  const broken = config.broken.filter((entry) => entry.name === name);
  if (chosen.length === 0) demandSound({ ...config, broken });
  if (chosen.length === 0) {
    const names = config.runners.map((runner) => `"${runner.name}"`).join(", ") || "none at all";
    throw new ConfigError(`${config.file} has no runner "${name}"; there is ${names}`);
  }
  if (chosen.length > 1) {
    throw new ConfigError(
      `${config.file} has several runners "${name}":\n${chosen.map((one) => `  ${describeRunner(one)}`).join("\n")}`,
    );
  }
  return { ...config, concurrent: 1, runners: chosen, broken: [] };
}

async function fromConfig(name: string, file: string, options: LoadOptions): Promise<Config> {
  return only(await loadConfig(file, options), name);
}

async function fromFlags(values: FlagValues, options: LoadOptions): Promise<Config> {
  const needed = (flag: string): string => {
    const value = textOf(values, flag);
    if (value === undefined) throw new CommandError(`--${flag} is needed, or --config FILE with --runner NAME`);
    return value;
  };
  const executor = needed("executor");
  const entry = {
    name: textOf(values, "name") ?? "run-single",
    url: needed("url"),
    token: needed("token"),
    executor,
    ...entryKeys(values, options.catalog.words, executor),
  };
  const stateDir = ownStateDir(options.defaultStateDir, `${entry.url} ${runnerId(entry.token)}`, "run-single");
  const own = { ...options, defaultStateDir: stateDir };
  return only(await typedConfig({ entry, options: own, file: "flags of run-single" }), entry.name);
}

function wholeNumber(values: FlagValues, flag: string): number {
  const text = textOf(values, flag) ?? "0";
  if (!/^\d{1,9}$/.test(text)) throw new CommandError(`--${flag} must be a whole number, not "${text}"`);
  return Number(text);
}
