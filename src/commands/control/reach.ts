import { resolve } from "node:path";
import { type ControlClient, createControlClient } from "../../control/client.ts";
import { CommandError, ConfigError } from "../../errors.ts";
import { configFileOf, type LocalContext, loadOptions } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";

/**
 * The running runner that `--config` or `--state-dir` names.
 * @throws {CommandError} the configuration does not tell where it keeps its state
 */
export async function reachRunner(values: FlagValues, context: LocalContext): Promise<ControlClient> {
  const { uid, cwd } = context;
  const given = textOf(values, "state-dir");
  if (given !== undefined) {
    const stateDir = resolve(cwd, given);
    return createControlClient({ stateDir, named: stateDir, uid });
  }
  const { findStateDir } = await import("../../config/state-dir.ts");
  const file = configFileOf(textOf(values, "config"), context);
  const stateDir = await findStateDir(file, loadOptions(context)).catch((error: unknown) => {
    if (!(error instanceof ConfigError)) throw error;
    throw new CommandError(`${error.message}\nThe runner can still be reached with --state-dir`, { cause: error });
  });
  return createControlClient({ stateDir, named: file, uid });
}
