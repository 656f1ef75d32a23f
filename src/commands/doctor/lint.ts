import { basename, isAbsolute, join } from "node:path";
import { type CommandContext, configFileOf } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import { readConfiguration } from "./configuration.ts";
import { printNotes, statusOf } from "./finding.ts";

/**
 * Checks a configuration file and nothing else: it connects to nothing and writes nothing. A CI file is checked, too: what it
 * includes is fetched, and nothing is run.
 * @returns the exit status
 */
export async function lintCommand(
  given: string | undefined,
  values: FlagValues,
  context: CommandContext,
): Promise<number> {
  const file = configFileOf(given ?? textOf(values, "config"), context);
  const { notes } =
    given !== undefined && isCiFile(given)
      ? { notes: await (await import("./lint-ci.ts")).lintCiFile(given, values, context) }
      : await readConfiguration(isAbsolute(file) ? file : join(context.cwd, file), context);
  printNotes(notes, values.json === true, context);
  const status = statusOf(notes);
  return status === 1 && values.strict !== true ? 0 : Math.min(status, 1);
}

/** Whether a file of that name describes pipelines, and not a runner. */
function isCiFile(file: string): boolean {
  return /\.ya?ml$|^\.alloy-ci\.json$/i.test(basename(file));
}
