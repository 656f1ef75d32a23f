import { isAbsolute, join } from "node:path";
import type { Writable } from "node:stream";
import type { LoadOptions } from "../config/load.ts";
import { defaultCertsDir, defaultConfigFile, defaultStateDir, usualConfigFile } from "../config/locations.ts";
import type { CoordinatorDeps } from "../coordinator/calls.ts";
import type { ExecutorCatalog } from "../executor/executor.ts";

/** What a command finds around it that asks no coordinator. */
export interface LocalContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Real user id; `undefined` on Windows. */
  readonly uid: number | undefined;
  readonly catalog: ExecutorCatalog;
  /** Standard output. All that was written to it leaves before the process ends. */
  readonly output: Writable;
  /** Prints what the person asked for, a line of `output`. */
  print(text: string): void;
  /** Prints what the person should know meanwhile, to standard error. */
  say(text: string): void;
  /** Fires on Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
}

/** What a command finds around it. Made by `agent/context.ts`; nothing else looks at the process. */
export interface CommandContext extends LocalContext {
  readonly coordinator: CoordinatorDeps;
}

/** The configuration that `--config` (or its absence) names, absolute. */
export function configFileOf(
  given: string | undefined,
  { env, uid, cwd }: Pick<LocalContext, "env" | "uid" | "cwd">,
): string {
  const file = given ?? defaultConfigFile(env, uid, cwd);
  return isAbsolute(file) ? file : join(cwd, file);
}

export function loadOptions(
  { catalog, env, uid, cwd }: Pick<LocalContext, "catalog" | "env" | "uid" | "cwd">,
  workingDirectory: string = cwd,
): LoadOptions {
  return {
    catalog,
    env,
    workingDirectory,
    certsDir: defaultCertsDir(env, uid, cwd),
    defaultStateDir: defaultStateDir(env, uid, cwd),
    usualConfigFile: usualConfigFile(env, uid, cwd),
  };
}
