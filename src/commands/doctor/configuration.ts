import type { Config } from "../../config/config.ts";
import { loadConfig } from "../../config/load.ts";
import { ConfigError, problemLine } from "../../errors.ts";
import { type CommandContext, loadOptions } from "../context.ts";
import type { Note } from "./finding.ts";

/** `null` where nothing can be made of the file. */
export interface ReadConfiguration {
  readonly config: Config | null;
  readonly notes: readonly Note[];
}

/** Everything that is wrong with a configuration file, as `run` would find it. */
export async function readConfiguration(file: string, context: CommandContext): Promise<ReadConfiguration> {
  let config: Config;
  try {
    config = await loadConfig(file, loadOptions(context));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { config: null, notes: error.message.split("\n").map((line) => noteOf("error", line)) };
  }
  // A missing file is an error here, although commands that would make it take it for an empty one.
  const missing = config.textDigest === undefined;
  const notes = [
    ...config.broken.flatMap(({ problems }) => problems.map((problem) => noteOf("error", problemLine(problem)))),
    ...config.warnings.map((line) => noteOf(missing ? "error" : "warning", line)),
  ];
  if (!missing && config.runners.length + config.broken.length === 0) {
    notes.push(noteOf("warning", `${file} has no [[runners]] entry. Add one with "alloy-runner register"`));
  }
  const runners = config.runners.length === 1 ? "1 runner" : `${config.runners.length} runners`;
  const fact: Note = { severity: "ok", check: "configuration", of: "", cause: `${file}: ${runners}` };
  return { config, notes: notes.length === 0 ? [fact] : notes };
}

/** The loader's sentences already say what to do. */
function noteOf(severity: "error" | "warning", cause: string): Note {
  return { severity, check: "configuration", of: "", cause, remedy: "" };
}
