import type { NewRunner } from "../../config/file/save.ts";
import { CommandError } from "../../errors.ts";
import type { EntryFlag, EntryQuestion, EntryTable, EntryValue, ExecutorWords } from "../../executor-words.ts";
import { parseBoolean } from "../arguments.ts";
import { cacheFlags } from "./cache-flags.ts";

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
): Omit<NewRunner, "name" | "url" | "token" | "executor"> {
  let keys: EntryTable = {};
  for (const flag of runnerFlags(all)) {
    if (executor !== undefined && flag.executors?.includes(executor) === false) continue;
    const value = readValue(flag, values[attributeOf(flag.flag)]);
    if (value !== undefined) keys = withKey(keys, flag.key.split("."), value);
  }
  for (const { completeEntry } of executor === undefined ? [] : builtOn(executor, all))
    keys = completeEntry?.(keys) ?? keys;
  return keys;
}

function readValue({ flag, kind, env }: EntryFlag, given: unknown): EntryValue | undefined {
  if ((kind === "table" || kind === "lists") && given !== undefined) {
    return readTable(flag, kind, Array.isArray(given) ? given : [given]);
  }
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
    case "lists":
      return given;
  }
}

/**
 * `/run:rw,size=1g` and `net.core.somaxconn=1024`: the first mark ends the name. Of lists it is `=`, as patterns of images have
 * colons; a name that comes again has one more in its list. Both may be a JSON object.
 */
function readTable(flag: string, kind: "table" | "lists", given: readonly unknown[]): EntryValue | undefined {
  const table: Record<string, EntryValue> = {};
  for (const text of given.map(String).filter((one) => one !== "")) {
    if (text.startsWith("{")) {
      Object.assign(table, readJson(flag, kind, text));
      continue;
    }
    const split = text.search(kind === "lists" ? /=/ : /[:=]/);
    const form = kind === "lists" ? "name=value" : "name:value or name=value";
    if (split < 1) throw new CommandError(`--${flag} must be ${form}, or a JSON object, not "${text}"`);
    const [name, value] = [text.slice(0, split), text.slice(split + 1)];
    const before = table[name];
    table[name] = kind === "table" ? value : [...(isList(before) ? before : []), value];
  }
  return Object.keys(table).length === 0 ? undefined : table;
}

function readJson(flag: string, kind: "table" | "lists", text: string): EntryTable {
  try {
    const parsed: unknown = JSON.parse(text);
    const entries = typeof parsed === "object" && parsed !== null ? Object.entries(parsed) : [];
    return Object.fromEntries(entries.map(([name, value]) => [name, kind === "lists" ? texts(value) : scalar(value)]));
  } catch {
    throw new CommandError(`--${flag} must be a JSON object such as ${EXAMPLES[kind]}, not ${text}`);
  }
}

function texts(value: unknown): EntryValue {
  if (!Array.isArray(value)) throw new TypeError("no list");
  return value.map(scalar);
}

function scalar(value: unknown): string {
  if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean")
    throw new TypeError("no text");
  return String(value);
}

const EXAMPLES = { table: '{"name":"value"}', lists: '{"name":["value"]}' };

function withKey(table: EntryTable, [first = "", ...rest]: readonly string[], value: EntryValue): EntryTable {
  if (rest.length === 0) return { ...table, [first]: value };
  const below = table[first];
  const inner = typeof below === "object" && !isList(below) && !(below instanceof Date) ? below : {};
  return { ...table, [first]: withKey(inner, rest, value) };
}

function isList(value: EntryValue | undefined): value is readonly EntryValue[] {
  return Array.isArray(value);
}
