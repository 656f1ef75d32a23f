import { join } from "node:path";
import {
  type EntrySettings,
  type ExecutorDeps,
  type HostPlaces,
  noMeter,
  type ShellHost,
} from "../../src/executor/deps.ts";
import type { Log } from "../../src/log.ts";

export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
};

/** Differences from an entry without settings, on a machine whose runner works in one directory. */
export interface DepsOptions extends Partial<EntrySettings>, Partial<ShellHost>, Partial<HostPlaces> {
  readonly log?: Log;
  readonly meter?: ExecutorDeps["meter"];
}

/** What an executor is created with in tests: relative directories are below `dir`, where nothing is made. */
export function executorDeps(dir: string, options: DepsOptions = {}): ExecutorDeps {
  const { log = silentLog, meter = noMeter, user, ownProgram, inheritEnvironment = [], ...rest } = options;
  const { working = dir, scratch = join(dir, "scratch"), keepDir = dir, env = process.env, ...entry } = rest;
  return {
    log,
    meter,
    host: { working, scratch, keepDir, env },
    entry: {
      buildsDir: undefined,
      shell: undefined,
      killLeftovers: true,
      killGraceMs: 10_000,
      ...entry,
    },
    shell: { user, inheritEnvironment, ...(ownProgram === undefined ? {} : { ownProgram }) },
  };
}
