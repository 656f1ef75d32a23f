import { realpath } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { ConfigError } from "../errors.ts";
import { readConfigFile } from "./file/read.ts";
import { readToml } from "./file/toml.ts";
import { ownStateDir } from "./locations.ts";

export interface StateDirOptions {
  readonly workingDirectory: string;
  /** Where jobs are remembered unless the file or `stateDirOverride` says otherwise. */
  readonly defaultStateDir: string;
  /** From the command line: wins over `state_dir`. */
  readonly stateDirOverride?: string | undefined;
}

export interface UsualFile {
  /** The file whose jobs are remembered in `defaultStateDir` itself; those of others are in a part of it. */
  readonly usualConfigFile: string;
}

/**
 * The state directory of whoever runs with a file, absolute. The rest of the file may be wrong: nothing else is looked at, which
 * also takes a fraction of the time.
 * @throws {ConfigError} the file cannot be read, is no TOML, or its `state_dir` is no text
 */
export async function readStateDir(file: string, options: StateDirOptions & UsualFile): Promise<string> {
  const path = resolve(options.workingDirectory, file);
  const found = await readConfigFile(path);
  const { state_dir: given = "" } = readToml(found?.text ?? "", path).data;
  if (typeof given !== "string")
    throw new ConfigError(`${path}: state_dir: expected text, a directory`, { file: path });
  return stateDirOf(given, { ...options, file: path, defaultStateDir: await stateDirOfFile(path, options) });
}

/** Where jobs of a file are remembered that does not say so itself. @param path absolute */
export async function stateDirOfFile(path: string, options: StateDirOptions & UsualFile): Promise<string> {
  const { workingDirectory, defaultStateDir } = options;
  const usual = resolve(workingDirectory, options.usualConfigFile);
  if (path === usual) return defaultStateDir;
  // By its name, not by where a link leads: that may change with each new version of the file.
  const [here, there] = await Promise.all([path, usual].map((name) => realpath(name).catch(() => null)));
  return here !== null && here === there ? defaultStateDir : ownStateDir(defaultStateDir, path);
}

/** A relative `state_dir` must not move with the directory that the runner happens to be started in. */
export function stateDirOf(
  given: string | undefined,
  { stateDirOverride, workingDirectory, file, defaultStateDir }: StateDirOptions & { readonly file: string },
): string {
  if (stateDirOverride) return resolve(workingDirectory, stateDirOverride);
  if (given) return resolve(dirname(file), given);
  return resolve(workingDirectory, defaultStateDir);
}
