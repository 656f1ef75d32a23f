import type { NewRunner } from "../config/save.ts";
import { CommandError } from "../errors.ts";

/** One flag of `register` and `run-single` that fills a key of a `[[runners]]` entry. */
export interface RunnerFlag {
  /** Long name without dashes; commander's attribute is its camel case. */
  readonly flag: string;
  readonly short?: string;
  readonly env?: string;
  readonly key: string;
  readonly kind: "text" | "integer" | "list";
  readonly help: string;
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
  { flag: "shell", env: "RUNNER_SHELL", key: "shell", kind: "text", help: "script dialect: bash, sh" },
];

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

/** Keys of a `[[runners]]` entry as the flags give them. @throws {CommandError} a number that is none */
export function entryKeys(values: FlagValues): Omit<NewRunner, "name" | "url" | "token" | "executor"> {
  const keys: Record<string, string | number | string[]> = {};
  for (const { flag, key, kind, env } of runnerFlags) {
    const value = values[attributeOf(flag)];
    if (Array.isArray(value)) {
      if (value.length > 0) keys[key] = value.map(String);
    } else if (typeof value === "string" && value !== "") {
      if (kind === "integer" && !/^-?\d{1,15}$/.test(value.trim())) {
        throw new CommandError(`--${flag}${env ? ` (${env})` : ""} must be a whole number, not "${value}"`);
      }
      keys[key] = kind === "integer" ? Number(value) : kind === "list" ? [value] : value;
    }
  }
  return keys;
}
