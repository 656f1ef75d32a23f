import { constants } from "node:fs";
import { access, open, realpath, stat } from "node:fs/promises";
import { devNull } from "node:os";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { ConfigError } from "../errors.ts";
import { keyName, type Part, readPart } from "./check/check.ts";
import { createFindings } from "./check/findings.ts";
import { foreignKeysOf } from "./check/keys.ts";
import { type GlobalSettings, globalSchema } from "./check/schema.ts";
import type { BrokenEntry, Config, RunnerConfig } from "./config.ts";
import { type EntrySurroundings, readEntry } from "./entry.ts";
import { errorCode } from "./error-code.ts";
import { expandVariables } from "./expand.ts";
import { childOf, type LayoutNode } from "./file/layout-node.ts";
import { isTable, LARGEST_FILE_BYTES, readToml } from "./file/toml.ts";
import { deepFreeze } from "./freeze.ts";
import { digest, runnerId, runnerName } from "./identity.ts";
import { ownStateDir } from "./locations.ts";
import { missingProgram } from "./program.ts";

export interface ParseOptions extends Omit<EntrySurroundings, "globalFingerprint" | "killGraceMs"> {
  /** Named in messages, absolute. */
  readonly file: string;
  /** Where jobs are remembered unless the file or `stateDirOverride` says otherwise. */
  readonly defaultStateDir: string;
  /** From the command line: wins over `state_dir`, `user`. */
  readonly stateDirOverride?: string | undefined;
  readonly userOverride?: string | undefined;
}

const KILL_GRACE_MS = 10_000;

export interface LoadOptions extends Omit<ParseOptions, "file" | "findFile" | "findProgram"> {
  /** The file whose jobs are remembered in `defaultStateDir` itself; those of others are in a part of it. */
  readonly usualConfigFile: string;
}

/**
 * Read and check config.toml. A missing file is an empty configuration with a warning.
 * @param file relative ones are resolved in `workingDirectory`
 * @throws {ConfigError} everything that is wrong with the whole of it, a line each; or why the file cannot be read. What is
 * wrong with a single entry is in `broken`
 */
export async function loadConfig(file: string, options: LoadOptions): Promise<Config> {
  const path = resolve(options.workingDirectory, file);
  const found = await readConfigFile(path);
  const config = await parseConfig(found?.text ?? "", {
    ...options,
    file: path,
    defaultStateDir: await stateDirOfFile(path, options),
    certsDir: await certsDirOf(path, options.certsDir),
    findFile: (name) => findFile(name, [options.workingDirectory, dirname(path)]),
    findProgram: (program) => missingProgram(program, options),
  });
  const notes =
    found === null ? [`${path} does not exist. "alloy-runner register" makes it`] : modeWarnings(path, found.mode);
  return Object.freeze({
    ...config,
    warnings: Object.freeze([...notes, ...config.warnings]),
    ...(found === null ? {} : { textDigest: digest(found.bytes) }),
  });
}

async function stateDirOfFile(path: string, options: LoadOptions): Promise<string> {
  const { workingDirectory, defaultStateDir } = options;
  const usual = resolve(workingDirectory, options.usualConfigFile);
  if (path === usual) return defaultStateDir;
  // By its name, not by where a link leads: that may change with each new version of the file.
  const [here, there] = await Promise.all([path, usual].map((name) => realpath(name).catch(() => null)));
  return here !== null && here === there ? defaultStateDir : ownStateDir(defaultStateDir, path);
}

/** The certificates beside the configuration that is in use come before those of the default place. */
export async function certsDirOf(configFile: string, defaultDir: string): Promise<string> {
  const certs = join(dirname(configFile), "certs");
  return (await isDirectory(certs)) ? certs : defaultDir;
}

/** Check the text of a config.toml. Looks at no file, but through `findFile` and `findProgram`. */
export async function parseConfig(text: string, options: ParseOptions): Promise<Config> {
  const document = readToml(text, options.file);
  const { root } = document.layout;
  const findings = createFindings(options.file, document.layout.lineAt);
  const foreign = foreignKeysOf(options.catalog);
  const around = { document, findings, foreign };
  const whole: Part = { ...around, data: document.data, node: root, table: "", owner: "", skip: RUNNERS };
  const settings = readPart(globalSchema, whole);
  const killGraceMs = killGraceOf(settings);
  const globalFingerprint = settings === undefined ? "" : fingerprintOf(settings, options);
  const runners: RunnerConfig[] = [];
  const broken: BrokenEntry[] = [];
  const lines = new Map<string, number>();
  for (const entry of entriesOf(around)) {
    const read = await readEntry(entry, { ...options, killGraceMs, globalFingerprint });
    if (!("runner" in read)) {
      const { problems, line = document.layout.lineAt(entry.node.at) } = entry.findings;
      broken.push({ ...nameOf(entry, options.env), line, problems, reach: read.reach });
      continue;
    }
    const { runner } = read;
    const key = `${runner.url.href} ${runner.token}`;
    const before = lines.get(key);
    const line = document.layout.lineAt(entry.node.at);
    if (before !== undefined) {
      const text = `has the url and token of the entry in line ${before}: both share one place at the coordinator. Remove one, or register it anew`;
      findings.warning(entry.node.at, keyName(entry, []), text);
    } else lines.set(key, line);
    runners.push(runner);
  }
  if (settings?.metrics_server && settings.listen_address) {
    const at = childOf(root, "metrics_server")?.at ?? 0;
    findings.warning(at, "metrics_server", "has no effect beside listen_address, which is its newer name. Remove one");
  }
  if (settings?.sentry_dsn) {
    const at = childOf(root, "sentry_dsn")?.at ?? 0;
    findings.warning(at, "sentry_dsn", "has no effect: this runner reports to its log only. Remove it");
  }
  findings.raise(broken.flatMap(({ problems }) => problems));
  if (settings === undefined) throw new ConfigError(`${options.file}: cannot be used`, { file: options.file });
  const config: Config = {
    file: options.file,
    concurrent: settings.concurrent,
    checkIntervalMs: settings.check_interval,
    logLevel: settings.log_level,
    logFormat: settings.log_format,
    metricsAddress: settings.listen_address || settings.metrics_server || "",
    user: options.userOverride || settings.user || undefined,
    stateDir: stateDirOf(settings, options),
    minFreeDiskBytes: settings.min_free_disk,
    outboxMaxAgeMs: settings.outbox_max_age,
    shutdownTimeoutMs: settings.shutdown_timeout,
    connectionMaxAgeMs: settings.connection_max_age,
    sentryDsn: settings.sentry_dsn,
    runners,
    broken,
    warnings: findings.warnings,
  };
  deepFreeze(config);
  return config;
}

const RUNNERS: ReadonlySet<string> = new Set(["runners"]);

/** What an entry's poller and executor are given of the global section. */
function fingerprintOf(settings: GlobalSettings, options: ParseOptions): string {
  const { check_interval, connection_max_age, user } = settings;
  return JSON.stringify([check_interval, connection_max_age, options.userOverride || user, killGraceOf(settings)]);
}

/** A job that ignores SIGTERM has to be gone before `shutdown_timeout` is over. */
function killGraceOf(settings: GlobalSettings | undefined): number {
  return Math.min(KILL_GRACE_MS, (settings?.shutdown_timeout ?? Number.POSITIVE_INFINITY) / 2);
}

/** A relative `state_dir` must not move with the directory that the runner happens to be started in. */
function stateDirOf(settings: GlobalSettings, options: ParseOptions): string {
  if (options.stateDirOverride) return resolve(options.workingDirectory, options.stateDirOverride);
  if (settings.state_dir) return resolve(dirname(options.file), settings.state_dir);
  return resolve(options.workingDirectory, options.defaultStateDir);
}

/** The `[[runners]]` entries, each with its place. */
function* entriesOf(around: Pick<Part, "document" | "findings" | "foreign">): Generator<Part> {
  const { document, findings } = around;
  const keys = Object.keys(document.data).filter((each) => each.toLowerCase() === "runners");
  for (const key of keys) {
    const data = document.data[key];
    const node: LayoutNode = childOf(document.layout.root, key) ?? document.layout.root;
    if (key !== keys[0]) {
      findings.problem(
        node.at,
        key,
        `is the same as "${keys[0]}" in another case. Write all headers alike: [[runners]]`,
      );
    } else if (!Array.isArray(data)) {
      findings.problem(
        node.at,
        key,
        "expected a list of tables: write [[runners]], with two brackets, above each entry",
      );
    } else {
      for (const [index, entry] of data.entries()) {
        const item: LayoutNode = (node.kind === "array" ? node.items[index] : undefined) ?? node;
        const part = { ...around, findings: findings.apart(), node: item, table: "runners", skip: new Set<string>() };
        if (!isTable(entry))
          findings.problem(item.at, keyName({ table: "runners", owner: "" }, [index]), "expected a table");
        else yield { ...part, data: entry, owner: ownerOf(entry, index, data.length) };
      }
    }
  }
}

function ownerOf(entry: Readonly<Record<string, unknown>>, index: number, count: number): string {
  const key = Object.keys(entry).find((each) => each.toLowerCase() === "name");
  const name = key === undefined ? undefined : entry[key];
  if (typeof name === "string" && name !== "") return ` of ${JSON.stringify(name.slice(0, 60))}`;
  return count > 1 ? ` of entry ${index + 1}` : "";
}

/** What a broken entry is called. */
function nameOf({ data }: Part, env: ParseOptions["env"]): Pick<BrokenEntry, "name" | "id" | "executor"> {
  const text = (name: string): string => {
    const key = Object.keys(data).find((each) => each.toLowerCase() === name);
    const value = key === undefined ? undefined : data[key];
    return typeof value === "string" ? value : "";
  };
  const { text: expanded, missing } = expandVariables(text("token"), env);
  const token = missing.length === 0 ? expanded.trim() : "";
  const name = text("name").slice(0, 200);
  return {
    name: token === "" ? name : runnerName(name, token),
    id: token === "" ? "" : runnerId(token),
    executor: text("executor").slice(0, 60),
  };
}

/**
 * The same, where there is nothing to go on with but its entries.
 * @throws {ConfigError} one of them cannot be used
 */
export function demandSound(config: Config): Config {
  const [first] = config.broken;
  if (first === undefined) return config;
  const message = config.broken.flatMap(({ problems }) => problems).join("\n");
  throw new ConfigError(message, { file: config.file, line: first.line });
}

export interface ConfigFile {
  readonly bytes: Buffer;
  readonly text: string;
  readonly mode: number;
}

/**
 * The file's contents, or `null` when there is none.
 * @throws {ConfigError} it cannot be read, or is nothing to read
 */
export async function readConfigFile(path: string): Promise<ConfigFile | null> {
  const fail = (problem: string, cause?: unknown): ConfigError =>
    new ConfigError(`${path}: ${problem}`, { file: path, ...(cause === undefined ? {} : { cause }) });
  // Opening a FIFO would wait for its writer, without a limit.
  const flags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
  const handle = await open(path, flags).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return null;
    const hint = errorCode(error) === "EACCES" ? ", run as its owner or as root" : "";
    throw fail(`cannot be read (${errorCode(error)})${hint}`, error);
  });
  if (handle === null) return null;
  try {
    const stats = await handle.stat();
    if (stats.isDirectory()) throw fail("is a directory. Name the file in it, such as config.toml");
    if (!stats.isFile() && path !== devNull) throw fail("is not a regular file. Put the configuration into one");
    if (stats.size > LARGEST_FILE_BYTES) {
      throw fail(`has ${stats.size} bytes; at most ${LARGEST_FILE_BYTES} are read. Is it the right file?`);
    }
    const bytes = await handle.readFile();
    return { bytes, text: decode(bytes, path), mode: stats.mode };
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw fail(`cannot be read (${errorCode(error)})`, error);
  } finally {
    await handle.close();
  }
}

function decode(bytes: Buffer, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    const utf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
    const line = utf16 ? 1 : lineOfBadByte(bytes);
    const what = utf16 ? "the file is UTF-16" : "bytes that are not UTF-8";
    throw new ConfigError(`${path}:${line}: ${what}. Save it as UTF-8`, { file: path, line, cause });
  }
}

function lineOfBadByte(bytes: Buffer): number {
  let line = 1;
  for (let from = 0; from < bytes.length; line++) {
    const end = bytes.indexOf(10, from);
    const until = end < 0 ? bytes.length : end;
    const part = bytes.subarray(from, until);
    if (!Buffer.from(part.toString("utf8")).equals(part)) return line;
    from = until + 1;
  }
  return line;
}

/** Permission bits mean nothing on Windows. */
function modeWarnings(path: string, mode: number): string[] {
  if (process.platform === "win32" || path === devNull) return [];
  const others = mode & 0o077;
  if (others === 0) return [];
  const what = others & 0o022 ? "changed" : "read";
  const octal = (mode & 0o777).toString(8).padStart(4, "0");
  return [`${path} holds tokens and can be ${what} by other users (mode ${octal}). Run: chmod 600 ${path}`];
}

export async function findFile(
  name: string,
  bases: readonly string[],
): Promise<{ readonly path: string } | { readonly problem: string }> {
  const candidates = isAbsolute(name) ? [name] : bases.map((base) => resolve(base, name));
  let problem = "";
  for (const path of candidates) {
    try {
      if (!(await stat(path)).isFile()) throw Object.assign(new Error("not a file"), { code: "not a file" });
      await access(path, constants.R_OK);
      return { path };
    } catch (error) {
      problem ||= `the file ${path} cannot be read (${errorCode(error)}). Correct the path or its permissions, or remove the key`;
    }
  }
  return { problem };
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}
