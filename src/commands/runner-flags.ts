import type { NewRunner } from "../config/save.ts";
import type { TomlEntry, TomlValue } from "../config/toml-text.ts";
import { CommandError } from "../errors.ts";
import { parseBoolean } from "./arguments.ts";
import { cacheFlags } from "./cache-flags.ts";
import { dockerFlags, WITH_ENGINE, withCacheVolume } from "./docker-flags.ts";
import { sshFlags } from "./ssh-flags.ts";

/** One flag of `register` and `run-single` that fills a key of a `[[runners]]` entry. */
export interface RunnerFlag {
  /** Long name without dashes; commander's attribute is its camel case. */
  readonly flag: string;
  readonly short?: string;
  readonly env?: string;
  /** Where it stands; with a dot, in a table below the entry. */
  readonly key: string;
  readonly kind: "text" | "integer" | "list" | "boolean" | "table";
  readonly help: string;
  /** Only for entries with one of these executors; others get nothing from it, nor from its environment variable. */
  readonly executors?: readonly string[];
  /** What `register` asks, of which executors. */
  readonly question?: RunnerQuestion;
}

export interface RunnerQuestion {
  readonly message: string;
  readonly executors: readonly string[];
  readonly required?: boolean;
  /** Not echoed. */
  readonly secret?: boolean;
}

/** The flags of the Go runner, with their environment variables, for what every executor has. */
export const runnerFlags: readonly RunnerFlag[] = [
  {
    flag: "limit",
    env: "RUNNER_LIMIT",
    key: "limit",
    kind: "integer",
    help: "jobs at once of this runner; 0: no limit",
  },
  {
    flag: "output-limit",
    env: "RUNNER_OUTPUT_LIMIT",
    key: "output_limit",
    kind: "integer",
    help: "largest trace of a job, KiB",
  },
  {
    flag: "request-concurrency",
    env: "RUNNER_REQUEST_CONCURRENCY",
    key: "request_concurrency",
    kind: "integer",
    help: "job requests at once",
  },
  {
    flag: "tls-ca-file",
    env: "CI_SERVER_TLS_CA_FILE",
    key: "tls-ca-file",
    kind: "text",
    help: "certificates to trust, PEM",
  },
  {
    flag: "tls-cert-file",
    env: "CI_SERVER_TLS_CERT_FILE",
    key: "tls-cert-file",
    kind: "text",
    help: "client certificate, PEM",
  },
  { flag: "tls-key-file", env: "CI_SERVER_TLS_KEY_FILE", key: "tls-key-file", kind: "text", help: "its key, PEM" },
  {
    flag: "builds-dir",
    env: "RUNNER_BUILDS_DIR",
    key: "builds_dir",
    kind: "text",
    help: "where working copies are kept",
  },
  { flag: "cache-dir", env: "RUNNER_CACHE_DIR", key: "cache_dir", kind: "text", help: "where local caches are kept" },
  { flag: "clone-url", env: "CLONE_URL", key: "clone_url", kind: "text", help: "replaces the base of clone addresses" },
  { flag: "env", env: "RUNNER_ENV", key: "environment", kind: "list", help: "KEY=value for each job; may be repeated" },
  {
    flag: "pre-clone-script",
    env: "RUNNER_PRE_CLONE_SCRIPT",
    key: "pre_clone_script",
    kind: "text",
    help: "commands before the sources are fetched",
  },
  {
    flag: "pre-build-script",
    env: "RUNNER_PRE_BUILD_SCRIPT",
    key: "pre_build_script",
    kind: "text",
    help: "commands at the head of the job's script",
  },
  {
    flag: "post-build-script",
    env: "RUNNER_POST_BUILD_SCRIPT",
    key: "post_build_script",
    kind: "text",
    help: "commands at the tail of the job's script",
  },
  {
    flag: "shell",
    env: "RUNNER_SHELL",
    key: "shell",
    kind: "text",
    help: "script dialect: bash, sh, pwsh, powershell, cmd",
  },
  ...cacheFlags,
  ...dockerFlags,
  ...sshFlags,
];

/** What is asked of an entry with this executor, in order. */
export function questionsFor(executor: string): { readonly flag: string; readonly question: RunnerQuestion }[] {
  return runnerFlags.flatMap(({ flag, question }) =>
    question?.executors.includes(executor) === true ? [{ flag, question }] : [],
  );
}

export type FlagValues = Readonly<Record<string, unknown>>;

/** What commander calls `some-flag`: `someFlag`. */
export function attributeOf(flag: string): string {
  return flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** The text of a flag, `undefined` where it was not given or is empty. */
export function textOf(values: FlagValues, flag: string): string | undefined {
  const value = values[attributeOf(flag)];
  return typeof value === "string" && value.trim() !== "" ? value.trim() : undefined;
}

/**
 * Keys of a `[[runners]]` entry as the flags give them, with tables below it as objects: those that its executor reads.
 * @throws {CommandError} a number or a switch that is none
 */
export function entryKeys(
  values: FlagValues,
  executor?: string,
): Omit<NewRunner, "name" | "url" | "token" | "executor"> {
  let keys: TomlEntry = {};
  for (const flag of runnerFlags) {
    if (executor !== undefined && flag.executors?.includes(executor) === false) continue;
    const value = readValue(flag, values[attributeOf(flag.flag)]);
    if (value !== undefined) keys = withKey(keys, flag.key.split("."), value);
  }
  if (executor !== undefined && WITH_ENGINE.includes(executor)) {
    const { docker } = keys;
    const given = typeof docker === "object" && !isList(docker) ? docker.volumes : undefined;
    const volumes = given !== undefined && isList(given) ? given.map(String) : [];
    keys = withKey(keys, ["docker", "volumes"], withCacheVolume(volumes));
  }
  return keys;
}

function readValue({ flag, kind, env }: RunnerFlag, given: unknown): TomlValue | undefined {
  if (kind === "table" && given !== undefined) return readTable(flag, Array.isArray(given) ? given : [given]);
  if (Array.isArray(given)) return given.length > 0 ? given.map(String) : undefined;
  if (typeof given === "boolean") return given;
  if (typeof given !== "string" || given === "") return undefined;
  const mustBe = (what: string): CommandError =>
    new CommandError(`--${flag}${env ? ` (${env})` : ""} must be ${what}, not "${given}"`);
  switch (kind) {
    case "integer":
      if (!/^-?\d{1,15}$/.test(given.trim())) throw mustBe("a whole number");
      return Number(given);
    case "boolean": {
      const truth = parseBoolean(given);
      if (truth === undefined) throw mustBe("true or false");
      return truth;
    }
    case "list":
      return [given];
    case "text":
    case "table":
      return given;
  }
}

/** `/run:rw,size=1g` and `net.core.somaxconn=1024`: the first mark ends the name. */
function readTable(flag: string, given: readonly unknown[]): TomlValue | undefined {
  const entries = given.map(String).flatMap((text) => {
    if (text === "") return [];
    const split = text.search(/[:=]/);
    if (split < 1) throw new CommandError(`--${flag} must be name:value or name=value, not "${text}"`);
    return [[text.slice(0, split), text.slice(split + 1)] as const];
  });
  return entries.length === 0 ? undefined : Object.fromEntries(entries);
}

function withKey(table: TomlEntry, [first = "", ...rest]: readonly string[], value: TomlValue): TomlEntry {
  if (rest.length === 0) return { ...table, [first]: value };
  const below = table[first];
  const inner = typeof below === "object" && !isList(below) ? below : {};
  return { ...table, [first]: withKey(inner, rest, value) };
}

function isList(value: TomlValue): value is readonly TomlValue[] {
  return Array.isArray(value);
}
