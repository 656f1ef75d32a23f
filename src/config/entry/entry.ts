import { isAbsolute, resolve } from "node:path";
import type { ExecutorCatalog } from "../../executor/executor.ts";
import { keyName, type Part, readPart, subTable } from "../check/check.ts";
import { featureFlagWarnings, readFeatureFlags } from "../check/feature-flags.ts";
import { isForeignTable } from "../check/keys.ts";
import { type RunnerSettings, runnerSchema } from "../check/schema.ts";
import type { EntryReach, ExchangedToken, RunnerConfig } from "../config.ts";
import { childOf, nodeAt } from "../file/layout-node.ts";
import { canonicalText } from "../file/toml.ts";
import { digest, entryId, runnerName, shortToken, shortTokens } from "../identity.ts";
import { readToken, readUrl } from "./address.ts";
import { readCache } from "./cache.ts";
import { checkShell, findExecutor, lookForPrograms, type Report, readTables } from "./executor.ts";
import { readQueuingLimits } from "./monitoring.ts";
import { lifeOf, readTokenLife, TOKEN_KEYS } from "./token-life.ts";

/** What reading an entry needs to know of the world. */
export interface EntrySurroundings {
  readonly catalog: ExecutorCatalog;
  /** For `$NAME` in `url` and `token`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Base of relative paths in `tls-*`. */
  readonly workingDirectory: string;
  readonly certsDir: string;
  /** The token that was got for one which the file still has. */
  readonly exchanged?: (url: string, token: string) => ExchangedToken | undefined;
  /** Where a file named in the config is, or why it cannot be used. Without it, nothing is looked at. */
  readonly findFile?: (path: string) => Promise<{ readonly path: string } | { readonly problem: string }>;
  /** Why a program that an executor is set to start cannot be, or null. Without it, nothing is looked at. */
  readonly findProgram?: (program: string) => Promise<string | null>;
  /** SIGTERM → SIGKILL when a job is stopped. */
  readonly killGraceMs: number;
  /** Global settings that a change of must reach a running entry. */
  readonly globalFingerprint: string;
  /** The global `[labels]`. */
  readonly labels: Readonly<Record<string, string>>;
  /** The global `user`, or who was named in its place. */
  readonly user: string | undefined;
  /** The global `durable`; `undefined`: nothing is said. */
  readonly durable: boolean | undefined;
}

/** One `[[runners]]` entry, checked; when problems were found, its way to its coordinator as far as that is sound. */
export async function readEntry(
  entry: Part,
  around: EntrySurroundings,
): Promise<{ readonly runner: RunnerConfig } | { readonly reach: EntryReach | null }> {
  const { findings } = entry;
  const at = (key: string): number => {
    const child = entry.node.kind === "table" ? childOf(entry.node, key) : undefined;
    return (child ?? entry.node).at;
  };
  const problem = (key: string, text: string): void => findings.problem(at(key), keyName(entry, [key]), text);

  const named = subTable(entry.data, entry.node, "executor")?.data;
  const definition = typeof named === "string" ? await findExecutor(named, around.catalog, problem) : undefined;
  const own = new Set(definition?.tables.map((table) => table.name.toLowerCase()));
  const foreign = Object.keys(entry.data).filter(
    (key) => isForeignTable(key, entry.foreign) && key.toLowerCase() !== "cache",
  );
  const skip = new Set([...own, ...foreign.map((key) => key.toLowerCase())]);

  const settings = readPart(runnerSchema, { ...entry, skip });
  const tables = definition === undefined ? null : readTables(entry, definition, at("executor"));
  if (definition !== undefined && tables !== null) await lookForPrograms(entry, definition, tables, around.findProgram);
  if (settings === undefined) return { reach: null };
  const url = readUrl(settings.url, around.env, (text) => problem("url", text));
  const given = readToken(settings.token, around.env, (text) => problem("token", text));
  const exchanged = url === null || given === null ? undefined : around.exchanged?.(url.href, given);
  const token = exchanged?.token ?? given;
  const environment = readEnvironment(settings, problem);
  checkShell(settings, definition, problem);
  if (settings.pre_get_sources_script !== undefined && settings.pre_clone_script !== "") {
    findings.warning(at("pre_clone_script"), keyName(entry, ["pre_clone_script"]), UNUSED_PRE_CLONE);
  }
  for (const { path, text } of featureFlagWarnings(settings.feature_flags)) {
    const whole = ["feature_flags", ...path];
    findings.warning(nodeAt(entry.node, whole).at, keyName(entry, whole), text);
  }
  if (settings.durable === true && definition !== undefined && definition.canOutlive === undefined) {
    findings.warning(
      at("durable"),
      keyName(entry, ["durable"]),
      `has no effect with executor "${definition.name}" here`,
    );
  }
  const cache = readCache(settings.cache, settings.cache_max_size, (path, text) => {
    findings.warning(nodeAt(entry.node, ["cache", ...path]).at, keyName(entry, ["cache", ...path]), text);
  });
  const queuingLimits = await readQueuingLimits(settings.monitoring?.job_queuing_durations ?? [], (path, text) => {
    const whole = ["monitoring", ...path];
    findings.problem(nodeAt(entry.node, whole).at, keyName(entry, whole), text);
  });
  const files: Record<(typeof TLS_KEYS)[number], string | undefined> = {
    "tls-ca-file": undefined,
    "tls-cert-file": undefined,
    "tls-key-file": undefined,
  };
  for (const key of TLS_KEYS) {
    const written = settings[key];
    if (written === undefined || written === "") continue;
    const found = (await around.findFile?.(written)) ?? {
      path: isAbsolute(written) ? written : resolve(around.workingDirectory, written),
    };
    if ("path" in found) files[key] = found.path;
    else problem(key, found.problem);
  }
  if (!/^(?:$|(?:https?|ssh):\/\/.)/i.test(settings.clone_url.trim())) {
    findings.warning(at("clone_url"), keyName(entry, ["clone_url"]), NO_CLONE_ADDRESS);
  }
  const life = readTokenLife(settings, (key, text) => findings.warning(at(key), keyName(entry, [key]), text));
  if (url === null || token === null || given === null) return { reach: null };
  const reach: EntryReach = {
    url,
    token,
    tlsCaFile: files["tls-ca-file"],
    tlsCertFile: files["tls-cert-file"],
    tlsKeyFile: files["tls-key-file"],
    certsDir: around.certsDir,
  };
  if (definition === undefined || tables === null || findings.problems.length > 0) {
    // A coordinator that would be reached with other certificates than those that are meant is not.
    return { reach: TLS_KEYS.every((key) => !settings[key] || files[key] !== undefined) ? reach : null };
  }
  const id = entryId(settings.known_as, given);
  // How long the token lives concerns nobody who works with it.
  const lasting = Object.fromEntries(Object.entries(entry.data).filter(([key]) => !TOKEN_KEYS.has(key.toLowerCase())));
  const fingerprint = digest(
    JSON.stringify([canonicalText(lasting), url.href, token, id, files, around.certsDir, around.globalFingerprint]),
  );
  const asked = settings.durable ?? around.durable;
  const outlivesRunner = definition.canOutlive === "runner";
  const entryDeps = Object.freeze({
    buildsDir: settings.builds_dir || undefined,
    shell: settings.shell,
    killLeftovers: settings.kill_leftovers,
    killGraceMs: around.killGraceMs,
    ...(definition.canOutlive !== undefined && (asked ?? definition.outlivesUnasked === true)
      ? { durable: true, resumeTimeoutMs: settings.resume_timeout }
      : {}),
    ...(definition.makesMachines === true
      ? { machines: { runnerId: id, shortTokens: shortTokens(token), limit: settings.limit } }
      : {}),
  });
  const inheritEnvironment = settings.inherit_environment;
  const executorData = Object.fromEntries(Object.entries(entry.data).filter(([key]) => own.has(key.toLowerCase())));
  const executorFingerprint = digest(
    JSON.stringify([definition.name, canonicalText(executorData), entryDeps, inheritEnvironment, around.user]),
  );
  const runner: RunnerConfig = {
    ...reach,
    tokenLife: { ...life, written: settings.token.trim() === given, ...lifeOf(exchanged) },
    name: runnerName(settings.name, id),
    id,
    shortToken: shortToken(token),
    limit: settings.limit,
    requestConcurrency: settings.request_concurrency,
    weight: settings.weight,
    outputLimitBytes: settings.output_limit,
    strictCheckInterval: settings.strict_check_interval,
    unhealthyRequestsLimit: settings.unhealthy_requests_limit,
    unhealthyIntervalMs: settings.unhealthy_interval,
    executor: definition.name,
    shell: settings.shell,
    buildsDir: entryDeps.buildsDir,
    cacheDir: settings.cache_dir || undefined,
    cache,
    cloneUrl: settings.clone_url,
    environment,
    preCloneScript: settings.pre_get_sources_script ?? settings.pre_clone_script,
    postGetSourcesScript: settings.post_get_sources_script,
    preBuildScript: settings.pre_build_script,
    postBuildScript: settings.post_build_script,
    debugTraceDisabled: settings.debug_trace_disabled,
    prepareTimeoutMs: settings.prepare_timeout,
    getSourcesTimeoutMs: settings.get_sources_timeout,
    gitSslNoVerify: settings.git_ssl_no_verify,
    customBuildDir:
      settings.custom_build_dir?.enabled ?? definition.buildDirsAreApart?.(tables, entryDeps.buildsDir) === true,
    jobGitVariables: settings.job_git_variables ?? "safe",
    plainHttpSecretServers: settings.plain_http_secret_servers,
    inheritEnvironment,
    killLeftovers: settings.kill_leftovers,
    labels: { ...around.labels, ...settings.labels },
    artifact: {
      uploadTimeoutMs: settings.artifact.upload_timeout,
      answerTimeoutMs: settings.artifact.response_header_timeout,
    },
    durable: entryDeps.durable === true && outlivesRunner,
    ...(asked === true && outlivesRunner ? { durableAsked: true } : {}),
    written: canonicalText(entry.data),
    queuingLimits,
    featureFlags: readFeatureFlags(settings.feature_flags),
    fingerprint,
    executorFingerprint,
    reconfigure: (executor) => executor.reconfigure?.(tables, entryDeps) ?? false,
    openExecutor: ({ log, host, meter, user }) =>
      definition.create(tables, { log, host, meter, entry: entryDeps, shell: { user, inheritEnvironment } }),
  };
  return { runner };
}

const TLS_KEYS = ["tls-ca-file", "tls-cert-file", "tls-key-file"] as const;
const NO_CLONE_ADDRESS = "has no effect: expected an address that begins with https://, http:// or ssh://";
const UNUSED_PRE_CLONE =
  "has no effect beside pre_get_sources_script, which is its newer name. Put both texts into one of them";

function readEnvironment(settings: RunnerSettings, problem: Report): RunnerConfig["environment"] {
  return settings.environment.flatMap((text, index) => {
    const split = text.indexOf("=");
    if (split > 0) return [{ key: text.slice(0, split), value: text.slice(split + 1) }];
    // Not shown: it may be a value whose name was forgotten.
    problem("environment", `its entry ${index + 1} has no name before a "=". Expected "NAME=value"`);
    return [];
  });
}
