import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import type { Writable } from "node:stream";
import type { LoadOptions } from "../config/load.ts";
import { defaultCertsDir, defaultConfigFile, defaultStateDir, usualConfigFile } from "../config/locations.ts";
import type { CoordinatorDeps } from "../coordinator/calls.ts";
import type { ExecutorCatalog } from "../executor.ts";

/** What a command finds around it. Made by `agent/context.ts`; nothing else looks at the process. */
export interface CommandContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Real user id; `undefined` on Windows. */
  readonly uid: number | undefined;
  readonly catalog: ExecutorCatalog;
  readonly coordinator: CoordinatorDeps;
  /** Standard output. All that was written to it leaves before the process ends. */
  readonly output: Writable;
  /** Prints what the person asked for, a line of `output`. */
  print(text: string): void;
  /** Prints what the person should know meanwhile, to standard error. */
  say(text: string): void;
  /** Fires on Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
}

/** The configuration that `--config` (or its absence) names, absolute. */
export function configFileOf(
  given: string | undefined,
  { env, uid, cwd }: Pick<CommandContext, "env" | "uid" | "cwd">,
): string {
  const file = given ?? defaultConfigFile(env, uid, cwd);
  return isAbsolute(file) ? file : join(cwd, file);
}

export function loadOptions(
  { catalog, env, uid, cwd }: Pick<CommandContext, "catalog" | "env" | "uid" | "cwd">,
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

/**
 * Identifies this machine at GitLab. The file `.runner_system_id` in the usual directory of the configuration counts
 * first, as with GitLab Runner: it serves containers whose name does not last. Without it the id is `s_` and 12 hex
 * digits made from the machine id, which they do not give away; without a machine id, `r_` and 12 digits made from the
 * machine's name. AlloyCI ignores it.
 */
export async function systemId({ env, uid, cwd }: Pick<CommandContext, "env" | "uid" | "cwd">): Promise<string> {
  const kept = join(dirname(usualConfigFile(env, uid, cwd)), ".runner_system_id");
  const given = (await readFile(kept, "utf8").catch(() => "")).trim();
  if (/^[rs]_[0-9A-Za-z]{12}$/.test(given)) return given;
  for (const file of ["/etc/machine-id", "/var/lib/dbus/machine-id"]) {
    const id = await readFile(file, "utf8").catch(() => "");
    if (/^[0-9a-f]{32}/.test(id)) return `s_${digest(id.trim())}`;
  }
  return `r_${digest(hostname())}`;
}

function digest(key: string): string {
  return createHmac("sha256", key).update("alloy-runner").digest("hex").slice(0, 12);
}
