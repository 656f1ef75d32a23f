import { createHash } from "node:crypto";
import { userInfo } from "node:os";
import { basename, join } from "node:path";

type Variables = Readonly<Record<string, string | undefined>>;

/**
 * Where config.toml is looked for when `--config` is not given: `CONFIG_FILE`; as root `/etc/alloy-runner`; otherwise
 * `~/.alloy-runner`; without a home, and on Windows, the current directory.
 * @param uid real user id; `undefined` where there is none (Windows)
 */
export function defaultConfigFile(env: Variables, uid: number | undefined, cwd: string): string {
  if (env.CONFIG_FILE !== undefined && env.CONFIG_FILE !== "") return env.CONFIG_FILE;
  return usualConfigFile(env, uid, cwd);
}

/** The file that is meant where nobody names one: the default state directory is its own. */
export function usualConfigFile(env: Variables, uid: number | undefined, cwd: string): string {
  return join(defaultDir(env, uid, cwd), "config.toml");
}

/** Where `<host>.crt` and its like are looked for, unless the directory of the config file has a `certs` of its own. */
export function defaultCertsDir(env: Variables, uid: number | undefined, cwd: string): string {
  return join(defaultDir(env, uid, cwd), "certs");
}

/** Where jobs are remembered: `/var/lib/alloy-runner` as root, otherwise the user's state directory. */
export function defaultStateDir(env: Variables, uid: number | undefined, cwd: string): string {
  if (uid === 0) return "/var/lib/alloy-runner";
  if (uid === undefined) return join(env.ProgramData || cwd, "alloy-runner");
  // The XDG specification: a relative path is to be ignored.
  if (env.XDG_STATE_HOME?.startsWith("/")) return join(env.XDG_STATE_HOME, "alloy-runner");
  const home = homeOf(env);
  return home === "" ? join(cwd, "state") : join(home, ".local", "state", "alloy-runner");
}

/**
 * The part of the default state directory that belongs to another configuration, so that several runners of an account do
 * not meet there: `by-config/team-a-1a2b3c4d`.
 * @param of an absolute path, or whatever else tells the configuration from others
 * @param title what a person would call it
 */
export function ownStateDir(defaultStateDir: string, of: string, title = basename(of, ".toml")): string {
  const readable = title
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 24);
  const hash = createHash("sha256").update(of).digest("hex").slice(0, 8);
  return join(defaultStateDir, "by-config", readable === "" ? hash : `${readable}-${hash}`);
}

function defaultDir(env: Variables, uid: number | undefined, cwd: string): string {
  if (uid === undefined) return cwd;
  if (uid === 0) return "/etc/alloy-runner";
  const home = homeOf(env);
  return home === "" ? cwd : join(home, ".alloy-runner");
}

/** `HOME`, or what the password database says: services often start without HOME. */
function homeOf(env: Variables): string {
  if (env.HOME) return env.HOME;
  try {
    return userInfo().homedir;
  } catch {
    return "";
  }
}
