import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { ConfigError } from "../errors.ts";
import { keyName, type Part, readPart } from "./check/check.ts";
import { configError, createFindings } from "./check/findings.ts";
import { foreignKeysOf } from "./check/keys.ts";
import { type GlobalSettings, globalSchema } from "./check/schema.ts";
import type { BrokenEntry, Config, RunnerConfig } from "./config.ts";
import { entriesOf, nameOf } from "./entries.ts";
import { type EntrySurroundings, readEntry } from "./entry/entry.ts";
import { errorCode } from "./error-code.ts";
import { childOf, nodeAt } from "./file/layout-node.ts";
import { modeWarnings, readConfigFile } from "./file/read.ts";
import { readToml } from "./file/toml.ts";
import { deepFreeze } from "./freeze.ts";
import { digest } from "./identity.ts";
import { missingProgram } from "./program.ts";
import { readSessionServer } from "./session-server.ts";
import { type StateDirOptions, stateDirOf, stateDirOfFile, type UsualFile } from "./state-dir.ts";
import { readWeb } from "./web.ts";

export interface ParseOptions
  extends Omit<EntrySurroundings, "globalFingerprint" | "killGraceMs" | "labels" | "user" | "durable">,
    StateDirOptions {
  /** Named in messages, absolute. */
  readonly file: string;
  /** From the command line: wins over `user`. */
  readonly userOverride?: string | undefined;
}

const KILL_GRACE_MS = 10_000;

export interface LoadOptions extends Omit<ParseOptions, "file" | "findFile" | "findProgram">, UsualFile {}

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
    found === null ? [`${path} does not exist. "alloy-runner register" makes it`] : modeWarnings(path, found);
  return Object.freeze({
    ...config,
    warnings: Object.freeze([...notes, ...config.warnings]),
    ...(found === null ? {} : { textDigest: digest(found.bytes) }),
  });
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
  const user = options.userOverride || settings?.user || undefined;
  const durable = settings?.durable;
  const labels = settings?.labels ?? {};
  const runners: RunnerConfig[] = [];
  const broken: BrokenEntry[] = [];
  const lines = new Map<string, number>();
  for (const entry of entriesOf(around)) {
    const read = await readEntry(entry, { ...options, killGraceMs, globalFingerprint, labels, user, durable });
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
  const web = settings === undefined ? null : readWeb(settings.web, options.env);
  if (web !== null && "problem" in web) {
    findings.problem(nodeAt(root, ["web", web.key]).at, `web.${web.key}`, web.problem);
  }
  const sessionServer =
    settings === undefined
      ? null
      : readSessionServer(settings.session_server, (name) => resolve(dirname(options.file), name));
  if (sessionServer !== null && "problem" in sessionServer) {
    const { key, problem } = sessionServer;
    findings.problem(nodeAt(root, ["session_server", key]).at, `session_server.${key}`, problem);
  }
  findings.raise(broken.flatMap(({ problems }) => problems));
  if (
    settings === undefined ||
    (web !== null && "problem" in web) ||
    (sessionServer !== null && "problem" in sessionServer)
  )
    throw new ConfigError(`${options.file}: cannot be used`, { file: options.file });
  const config: Config = {
    file: options.file,
    concurrent: settings.concurrent,
    checkIntervalMs: settings.check_interval,
    logLevel: settings.log_level,
    logFormat: settings.log_format,
    metricsAddress: settings.listen_address || settings.metrics_server || "",
    debugEndpoints: settings.debug_endpoints,
    web,
    sessionServer,
    user,
    stateDir: stateDirOf(settings.state_dir, options),
    liveKeyFile: settings.live_key_file ? resolve(dirname(options.file), settings.live_key_file) : undefined,
    minFreeDiskBytes: settings.min_free_disk,
    outboxMaxAgeMs: settings.outbox_max_age,
    shutdownTimeoutMs: settings.shutdown_timeout,
    connectionMaxAgeMs: settings.connection_max_age,
    admission: {
      minFreeInodes: settings.admission.min_free_inodes,
      maxMemoryPressure: settings.admission.max_memory_pressure,
      maxCpuPressure: settings.admission.max_cpu_pressure,
      maxWeight: settings.admission.max_weight,
      maxSystemFailures: settings.admission.max_system_failures,
      failurePauseMs: settings.admission.failure_pause,
    },
    housekeeping: settings.housekeeping,
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
  const { check_interval, connection_max_age, labels, user, durable } = settings;
  const account = options.userOverride || user;
  return JSON.stringify([check_interval, connection_max_age, labels, account, killGraceOf(settings), durable]);
}

/** A job that ignores SIGTERM has to be gone before `shutdown_timeout` is over. */
function killGraceOf(settings: GlobalSettings | undefined): number {
  return Math.min(KILL_GRACE_MS, (settings?.shutdown_timeout ?? Number.POSITIVE_INFINITY) / 2);
}

/**
 * The same, where there is nothing to go on with but its entries.
 * @throws {ConfigError} one of them cannot be used
 */
export function demandSound(config: Config): Config {
  const [first] = config.broken;
  if (first === undefined) return config;
  throw configError(
    config.broken.flatMap(({ problems }) => problems),
    { file: config.file, line: first.line },
  );
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
