import { configFileOf, type LocalContext, loadOptions } from "../commands/context.ts";
import { type FlagValues, textOf } from "../commands/register/runner-flags.ts";
import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load.ts";
import type { HostPlaces } from "../executor/deps.ts";
import { openStateDir, type StateDir } from "../journal/state/state-dir.ts";
import { createLog, type Log, type LogLevel, streamOutput } from "../log.ts";
import { hostPlaces } from "./surroundings.ts";

/** What a runner would have of this machine, in the hands of a command. */
export interface Held {
  readonly config: Config;
  readonly stateDir: StateDir;
  readonly host: HostPlaces;
  readonly log: Log;
}

/**
 * A command does a runner's work where none is at work: it holds the state directory meanwhile, so that none begins.
 * @param level of the log, which goes to stderr
 * @throws {ConfigError} the configuration cannot be used, or a runner has the state directory
 */
export async function holding<T>(
  values: FlagValues,
  context: LocalContext,
  level: LogLevel,
  body: (held: Held) => Promise<T>,
): Promise<T> {
  const output = streamOutput(process.stderr, (count) => `${count} lines of the log were dropped\n`);
  const log = createLog({ level, format: "text", output, colors: false });
  const config = await loadConfig(configFileOf(textOf(values, "config"), context), loadOptions(context));
  const stateDir = await openStateDir({ path: config.stateDir, log }, context.signal);
  try {
    return await body({ config, stateDir, host: hostPlaces(stateDir, context.cwd, context.env), log });
  } finally {
    await stateDir.close();
    await log.flush(1000);
  }
}
