import type { NewRunner } from "../../config/file/save.ts";
import {
  type EntryFlag,
  type EntryQuestion,
  type EntryTable,
  type EntryValue,
  type ExecutorWords,
  isEntryTable,
} from "../../executor/words.ts";
import { cacheFlags } from "./cache-flags.ts";
import { readFlagValue } from "./flag-value.ts";

/** A flag with those whose entries it is for. */
export interface RunnerFlag extends EntryFlag {
  /** The heading in `--help` under which it stands. */
  readonly heading: string;
  /** Executors to which the flag applies; entries of others ignore it and its environment variable. */
  readonly executors?: readonly string[];
}

/** The flags of the Go runner for an entry's line to its coordinator. */
const coordinatorFlags: readonly EntryFlag[] = [
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
    flag: "strict-check-interval",
    env: "RUNNER_STRICT_CHECK_INTERVAL",
    key: "strict_check_interval",
    kind: "boolean",
    help: "wait check_interval, no less",
  },
  {
    flag: "unhealthy-requests-limit",
    env: "RUNNER_UNHEALTHY_REQUESTS_LIMIT",
    key: "unhealthy_requests_limit",
    kind: "integer",
    help: "refused requests in a row after which it asks rarely",
  },
  {
    flag: "unhealthy-interval",
    env: "RUNNER_UNHEALTHY_INTERVAL",
    key: "unhealthy_interval",
    kind: "text",
    help: "longest pause between two tries then",
  },
  {
    flag: "job-status-final-update-retry-limit",
    env: "RUNNER_JOB_STATUS_FINAL_UPDATE_RETRY_LIMIT",
    key: "job_status_final_update_retry_limit",
    kind: "integer",
    help: "GitLab Runner's; reports are tried for outbox_max_age here",
  },
  { flag: "clone-url", env: "CLONE_URL", key: "clone_url", kind: "text", help: "replaces the base of clone addresses" },
];

/** The flags of the Go runner, with their environment variables, for what every executor has. */
const jobFlags: readonly EntryFlag[] = [
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
    flag: "builds-dir",
    env: "RUNNER_BUILDS_DIR",
    key: "builds_dir",
    kind: "text",
    help: "where working copies are kept",
  },
  { flag: "cache-dir", env: "RUNNER_CACHE_DIR", key: "cache_dir", kind: "text", help: "where local caches are kept" },
  {
    flag: "custom_build_dir-enabled",
    env: "CUSTOM_BUILD_DIR_ENABLED",
    key: "custom_build_dir.enabled",
    kind: "boolean",
    help: "jobs may choose the directory of their sources",
  },
  { flag: "env", env: "RUNNER_ENV", key: "environment", kind: "list", help: "KEY=value for each job; may be repeated" },
  {
    flag: "pre-clone-script",
    env: "RUNNER_PRE_CLONE_SCRIPT",
    key: "pre_clone_script",
    kind: "text",
    help: "commands before the sources are fetched",
  },
  {
    flag: "pre-get-sources-script",
    env: "RUNNER_PRE_GET_SOURCES_SCRIPT",
    key: "pre_get_sources_script",
    kind: "text",
    help: "the same, by its newer name",
  },
  {
    flag: "post-get-sources-script",
    env: "RUNNER_POST_GET_SOURCES_SCRIPT",
    key: "post_get_sources_script",
    kind: "text",
    help: "commands after the sources are fetched",
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
    flag: "prepare-timeout",
    env: "RUNNER_PREPARE_TIMEOUT",
    key: "prepare_timeout",
    kind: "text",
    help: "longest preparation of a job: 90s, 15m",
  },
  {
    flag: "get-sources-timeout",
    env: "RUNNER_GET_SOURCES_TIMEOUT",
    key: "get_sources_timeout",
    kind: "text",
    help: "longest fetching of its sources",
  },
  {
    flag: "debug-trace-disabled",
    env: "RUNNER_DEBUG_TRACE_DISABLED",
    key: "debug_trace_disabled",
    kind: "boolean",
    help: "ignore a job's CI_DEBUG_TRACE",
  },
  {
    flag: "feature-flags",
    env: "FEATURE_FLAGS",
    key: "feature_flags",
    kind: "switches",
    help: "NAME=true or NAME=false; may be repeated, or a JSON object",
  },
  {
    flag: "safe-directory-checkout",
    env: "RUNNER_SAFE_DIRECTORY_CHECKOUT",
    key: "safe_directory_checkout",
    kind: "boolean",
    help: "GitLab Runner's; always so here",
  },
  {
    flag: "clean-git-config",
    env: "RUNNER_CLEAN_GIT_CONFIG",
    key: "clean_git_config",
    kind: "boolean",
    help: "GitLab Runner's; always so here",
  },
  {
    flag: "use-slot-cgroups",
    env: "RUNNER_USE_SLOT_CGROUPS",
    key: "use_slot_cgroups",
    kind: "boolean",
    help: "GitLab Runner's; has no effect here",
  },
  {
    flag: "slot-cgroup-template",
    env: "RUNNER_SLOT_CGROUP_TEMPLATE",
    key: "slot_cgroup_template",
    kind: "text",
    help: "GitLab Runner's; has no effect here",
  },
  {
    flag: "proxy-exec",
    env: "RUNNER_PROXY_EXEC",
    key: "proxy_exec",
    kind: "boolean",
    help: "GitLab Runner's; has no effect here",
  },
  {
    flag: "shell",
    env: "RUNNER_SHELL",
    key: "shell",
    kind: "text",
    help: "script dialect: bash, sh, pwsh, powershell, cmd",
  },
];

/** All flags that fill an entry, each executor's under its title. */
export function runnerFlags(all: readonly ExecutorWords[]): readonly RunnerFlag[] {
  const under = (heading: string, flags: readonly EntryFlag[]): RunnerFlag[] =>
    flags.map((flag) => ({ ...flag, heading }));
  return [
    ...under("Coordinator", coordinatorFlags),
    ...under("Jobs", jobFlags),
    ...under("Cache", cacheFlags),
    ...all.flatMap((owner) => {
      const executors = all.filter(({ name }) => builtOn(name, all).includes(owner)).map(({ name }) => name);
      return under(owner.title, owner.flags).map((flag) => ({ ...flag, executors }));
    }),
  ];
}

/** The executor's words, and those of all that it is built on. */
function builtOn(executor: string, all: readonly ExecutorWords[]): readonly ExecutorWords[] {
  const own = all.find(({ name }) => name === executor);
  return own === undefined ? [] : [own, ...own.builtOn.flatMap((name) => builtOn(name, all))];
}

/** What is asked of an entry with this executor, in order. */
export function questionsFor(executor: string, all: readonly ExecutorWords[]): readonly EntryQuestion[] {
  return all.find(({ name }) => name === executor)?.questions ?? [];
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
  all: readonly ExecutorWords[],
  executor?: string,
  template: EntryTable = {},
): Omit<NewRunner, "name" | "url" | "token" | "executor"> {
  let keys: EntryTable = {};
  for (const flag of runnerFlags(all)) {
    if (executor !== undefined && flag.executors?.includes(executor) === false) continue;
    const value = readFlagValue(flag, values[attributeOf(flag.flag)]);
    if (value !== undefined) keys = withKey(keys, flag.key.split("."), value);
  }
  const { name: _name, url: _url, token: _token, executor: _executor, ...rest } = template;
  keys = overTemplate(rest, keys);
  for (const { completeEntry } of executor === undefined ? [] : builtOn(executor, all))
    keys = completeEntry?.(keys) ?? keys;
  return keys;
}

/** `given` over the template: tables go together key by key, anything else that is given counts as a whole. */
function overTemplate(template: EntryTable, given: EntryTable): EntryTable {
  const merged: Record<string, EntryValue | undefined> = { ...template };
  for (const [key, value] of Object.entries(given)) {
    const below = merged[key];
    if (value !== undefined)
      merged[key] = isEntryTable(below) && isEntryTable(value) ? overTemplate(below, value) : value;
  }
  return merged;
}

function withKey(table: EntryTable, [first = "", ...rest]: readonly string[], value: EntryValue): EntryTable {
  if (rest.length === 0) return { ...table, [first]: value };
  const below = table[first];
  const inner = isEntryTable(below) ? below : {};
  return { ...table, [first]: withKey(inner, rest, value) };
}
