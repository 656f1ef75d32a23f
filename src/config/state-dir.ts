import { realpath } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { ConfigError } from "../errors.ts";
import { readConfigFile } from "./file/read.ts";
import { readToml } from "./file/toml.ts";
import { ownStateDir } from "./locations.ts";

/** What tells where state is that the file does not speak of. */
export interface StateDirOptions {
  readonly workingDirectory: string;
  readonly defaultStateDir: string;
  /** The file whose jobs are remembered in `defaultStateDir` itself; those of others are in a part of it. */
  readonly usualConfigFile: string;
}

/**
 * Where the runner of a config.toml keeps its state. Its entries are not looked at: a runner can be reached while they are wrong, and
 * nothing of what checks them is loaded.
 * @param file relative ones are resolved in `workingDirectory`
 * @throws {ConfigError} the file cannot be read
 */
export async function findStateDir(file: string, options: StateDirOptions): Promise<string> {
  const path = resolve(options.workingDirectory, file);
  const found = await readConfigFile(path);
  const { data } = readToml(found?.text ?? "", path);
  const given = Object.entries(data).find(([key]) => key.toLowerCase() === "state_dir")?.[1];
  if (given !== undefined && typeof given !== "string")
    throw new ConfigError(`${path}: state_dir: expected a text`, { file: path });
  return placeOf(path, given) ?? (await stateDirOfFile(path, options));
}

/** A relative `state_dir` must not move with the directory that the runner happens to be started in. */
export function placeOf(file: string, given: string | undefined): string | undefined {
  return given === undefined || given === "" ? undefined : resolve(dirname(file), given);
}

/** Where a file says nothing of it. @param path absolute */
export async function stateDirOfFile(path: string, options: StateDirOptions): Promise<string> {
  const { workingDirectory, defaultStateDir } = options;
  const usual = resolve(workingDirectory, options.usualConfigFile);
  if (path === usual) return defaultStateDir;
  // By its name, not by where a link leads: that may change with each new version of the file.
  const [here, there] = await Promise.all([path, usual].map((name) => realpath(name).catch(() => null)));
  return here !== null && here === there ? defaultStateDir : ownStateDir(defaultStateDir, path);
}
