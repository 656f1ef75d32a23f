import type { BrokenEntry } from "../config/config.ts";
import { readRunners } from "../config/file/save.ts";
import { loadConfig } from "../config/load.ts";
import { CommandError, describeError, problemLine } from "../errors.ts";
import { configFileOf, type LocalContext, loadOptions } from "./context.ts";
import { type FlagValues, textOf } from "./register/runner-flags.ts";

/**
 * Print the entries, also of a file that `run` would refuse; what is wrong with it goes to stderr. Tokens are hashed.
 * @throws {CommandError} the file or an entry of it cannot be used
 */
export async function listCommand(values: FlagValues, context: LocalContext): Promise<void> {
  const file = configFileOf(textOf(values, "config"), context);
  const runners = await readRunners(file, context.env);
  context.print(`${file}: ${runners.length === 0 ? "no runners" : ""}`.trimEnd());
  const rows = [
    ["NAME", "EXECUTOR", "ID", "URL"],
    ...runners.map(({ name, executor, id, url }) => [name, executor, id === "" ? "-" : id, withoutUser(url)]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  if (runners.length > 0) {
    for (const row of rows)
      context.print(
        row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd(),
      );
  }
  try {
    const { warnings, broken } = await loadConfig(file, loadOptions(context));
    for (const warning of warnings) context.say(`warning: ${warning}`);
    if (broken.length > 0) throw new CommandError(describeBroken(broken));
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(`this configuration cannot be used:\n${describeProblem(error)}`, { cause: error });
  }
}

/** All that is wrong with entries, for a person. */
function describeBroken(broken: readonly BrokenEntry[]): string {
  const what = broken.length === 1 ? "1 entry cannot be used" : `${broken.length} entries cannot be used`;
  return [`${what}:`, ...broken.flatMap(({ problems }) => problems.map(problemLine))].join("\n");
}

function describeProblem(error: unknown): string {
  return error instanceof Error && error.name === "ConfigError" ? error.message : describeError(error);
}

/** An address for people to see. */
export function withoutUser(text: string): string {
  if (!URL.canParse(text)) return text;
  const url = new URL(text);
  url.username = "";
  url.password = "";
  return url.href;
}
