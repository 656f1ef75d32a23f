import type { Config } from "../config/config.ts";
import { appendEntry } from "../config/file/edit.ts";
import { demandSound, findFile, type LoadOptions, type ParseOptions, parseConfig } from "../config/load.ts";
import { missingProgram } from "../config/program.ts";
import { CommandError, ConfigError, type ConfigProblem } from "../errors.ts";
import type { EntryTable } from "../executor/words.ts";

export interface TypedEntry {
  readonly entry: EntryTable;
  readonly options: LoadOptions;
  /** The name that messages use instead of a file's: `flags of exec`. */
  readonly file: ParseOptions["file"];
  /** Words a problem for somebody who typed flags; by default its text alone, as there is no file to look into. */
  readonly say?: (problem: ConfigProblem) => string;
}

/**
 * A configuration of one entry that somebody has typed and that stands in no file, checked as `run` checks its file.
 * @throws {CommandError} it cannot be used
 */
export async function typedConfig({ entry, options, file, say = ({ text }) => text }: TypedEntry): Promise<Config> {
  try {
    const config = await parseConfig(appendEntry("", entry), {
      ...options,
      file,
      findFile: (path) => findFile(path, [options.workingDirectory]),
      findProgram: (program) => missingProgram(program, options),
    });
    return demandSound(config);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new CommandError(error.problems.map(say).join("\n") || error.message, { cause: error });
  }
}
