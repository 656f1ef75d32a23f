import type { NewRunner } from "../config/save.ts";
import type { TomlEntry, TomlValue } from "../config/toml-text.ts";
import { CommandError } from "../errors.ts";
import { parseBoolean } from "./arguments.ts";
import { dockerFlags, WITH_ENGINE, withCacheVolume } from "./docker-flags.ts";

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

/** Executors that log in by SSH. */
const BY_SSH = ["ssh", "docker-ssh", "docker-ssh+machine"];

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
  { flag: "cache-type", env: "CACHE_TYPE", key: "cache.Type", kind: "text", help: "s3: keep caches in a bucket, too" },
  {
    flag: "cache-s3-cache-path",
    env: "S3_CACHE_PATH",
    key: "cache.Path",
    kind: "text",
    help: "what the names of caches in the bucket begin with",
  },
  { flag: "cache-path", env: "CACHE_PATH", key: "cache.Path", kind: "text", help: "the same" },
  {
    flag: "cache-cache-shared",
    env: "CACHE_SHARED",
    key: "cache.Shared",
    kind: "boolean",
    help: "share the bucket's caches with other runners of the same projects",
  },
  { flag: "cache-shared", key: "cache.Shared", kind: "boolean", help: "the same" },
  {
    flag: "cache-s3-server-address",
    env: "S3_SERVER_ADDRESS",
    key: "cache.s3.ServerAddress",
    kind: "text",
    help: "host[:port] of the S3 server",
  },
  {
    flag: "cache-s3-access-key",
    env: "S3_ACCESS_KEY",
    key: "cache.s3.AccessKey",
    kind: "text",
    help: "access key of the bucket",
  },
  {
    flag: "cache-s3-secret-key",
    env: "S3_SECRET_KEY",
    key: "cache.s3.SecretKey",
    kind: "text",
    help: "its secret; better given by environment",
  },
  {
    flag: "cache-s3-bucket-name",
    env: "S3_BUCKET_NAME",
    key: "cache.s3.BucketName",
    kind: "text",
    help: "name of the bucket",
  },
  {
    flag: "cache-s3-bucket-location",
    env: "S3_BUCKET_LOCATION",
    key: "cache.s3.BucketLocation",
    kind: "text",
    help: "region of the bucket",
  },
  {
    flag: "cache-s3-insecure",
    env: "S3_CACHE_INSECURE",
    key: "cache.s3.Insecure",
    kind: "boolean",
    help: "plain HTTP",
  },
  {
    flag: "cache-s3-authentication-type",
    env: "CACHE_S3_AUTHENTICATION_TYPE",
    key: "cache.s3.AuthenticationType",
    kind: "text",
    help: "access-key, or iam for the credentials of this machine",
  },
  ...dockerFlags,
  {
    flag: "ssh-host",
    env: "SSH_HOST",
    key: "ssh.host",
    kind: "text",
    help: "host that jobs run on",
    executors: BY_SSH,
    question: { message: "SSH host", executors: ["ssh"], required: true },
  },
  {
    flag: "ssh-port",
    env: "SSH_PORT",
    key: "ssh.port",
    kind: "text",
    help: "its port",
    executors: BY_SSH,
    question: { message: "SSH port (empty: 22)", executors: ["ssh"] },
  },
  {
    flag: "ssh-user",
    env: "SSH_USER",
    key: "ssh.user",
    kind: "text",
    help: "account that jobs run under there",
    executors: BY_SSH,
    question: { message: "SSH user", executors: BY_SSH, required: true },
  },
  {
    flag: "ssh-password",
    env: "SSH_PASSWORD",
    key: "ssh.password",
    kind: "text",
    help: "password to log in with; better given by environment",
    executors: BY_SSH,
    question: { message: "SSH password (empty: none)", executors: BY_SSH, secret: true },
  },
  {
    flag: "ssh-identity-file",
    env: "SSH_IDENTITY_FILE",
    key: "ssh.identity_file",
    kind: "text",
    help: "private key to log in with",
    executors: BY_SSH,
    question: { message: "Private key file (empty: none)", executors: BY_SSH },
  },
  {
    flag: "ssh-identity-passphrase",
    env: "SSH_IDENTITY_PASSPHRASE",
    key: "ssh.identity_passphrase",
    kind: "text",
    help: "what opens that key; better given by environment",
    executors: BY_SSH,
  },
  {
    flag: "ssh-agent",
    env: "SSH_AGENT",
    key: "ssh.agent",
    kind: "text",
    help: "socket of an agent to log in with",
    executors: BY_SSH,
  },
  {
    flag: "ssh-known-hosts-file",
    env: "SSH_KNOWN_HOSTS_FILE",
    key: "ssh.known_hosts_file",
    kind: "text",
    help: "host keys to trust; ~/.ssh/known_hosts by default",
    executors: BY_SSH,
  },
  {
    flag: "ssh-host-key-fingerprint",
    env: "SSH_HOST_KEY_FINGERPRINT",
    key: "ssh.host_key_fingerprint",
    kind: "text",
    help: "the one host key to trust: SHA256:…",
    executors: BY_SSH,
  },
  {
    flag: "ssh-disable-strict-host-key-checking",
    env: "SSH_DISABLE_STRICT_HOST_KEY_CHECKING",
    key: "ssh.disable_strict_host_key_checking",
    kind: "boolean",
    help: "trust any host key",
    executors: BY_SSH,
  },
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
