import type { FeatureFlag } from "../../feature-flags.ts";
import { type CacheFormat, cacheFormats } from "../../transfer/cache/cache-store.ts";
import { type CompressionLevel, compressionLevels } from "../../transfer/transfer.ts";
import type { Job } from "../job.ts";
import { formatDuration, parseDuration } from "./duration.ts";
import { type EntryFlags, featureFlag, sayUnheeded } from "./feature-flags.ts";
import { createSettingsReader, type SettingsReader } from "./settings-reader.ts";

type GitStrategy = "clone" | "fetch" | "none" | "empty";

/** How the sources are fetched. */
export interface GitSettings {
  readonly strategy: GitStrategy;
  /** Commits of history; 0 is all of it. */
  readonly depth: number;
  readonly checkout: boolean;
  /** Arguments of `git clean`; `null`: nothing is cleaned. */
  readonly cleanFlags: readonly string[] | null;
  readonly fetchFlags: readonly string[];
  readonly lfs: boolean;
  /** A server may name bundles, which are fetched first. */
  readonly bundleUris?: true;
  /** The server's log shows which request for a job its requests of git belong to. */
  readonly correlates?: true;
  /** Credentials go with the first request already, which would otherwise be refused first. */
  readonly proactiveAuth?: true;
  /** A fresh working copy comes by `git clone`, with these options of the job's. */
  readonly nativeClone?: { readonly flags: readonly string[] };
  readonly submodules: {
    readonly strategy: "none" | "normal" | "recursive";
    readonly depth: number;
    /** Path patterns of git; empty is all. */
    readonly paths: readonly string[];
    readonly updateFlags: readonly string[];
    /** Fetch from `git@host:` and `ssh://git@host/` over HTTPS. */
    readonly forceHttps: boolean;
  };
}

interface CacheSettings {
  /** `CACHE_REQUEST_TIMEOUT`, for one cache. */
  readonly timeoutMs: number;
  /** `CACHE_COMPRESSION_FORMAT`; `null`: the runner's choice. */
  readonly format: CacheFormat | null;
  /** `CACHE_COMPRESSION_LEVEL`. */
  readonly level: CompressionLevel;
  /** `CACHE_FALLBACK_KEY`. */
  readonly fallbackKey: string | undefined;
  /** `FF_HASH_CACHE_KEYS`. */
  readonly hashed: boolean;
}

/** A store that is away for a moment fails no job. */
const SECRET_ATTEMPTS = 3;

/** What a job's variables steer, checked and in one set of units. */
export interface JobSettings {
  readonly git: GitSettings;
  /** Tries of each stage, 1–10. */
  readonly attempts: {
    readonly getSources: number;
    readonly restoreCache: number;
    readonly downloadArtifacts: number;
  };
  readonly secrets: {
    /** `SECRETS_RETRIEVAL_ATTEMPTS`. */
    readonly attempts: number;
    /** `FF_SECRET_RESOLVING_FAILS_IF_MISSING`. */
    readonly mustExist: boolean;
  };
  readonly cache: CacheSettings;
  /** `ARTIFACT_COMPRESSION_LEVEL`. */
  readonly artifactLevel: CompressionLevel;
  /** `null`: only the job's own limit. */
  readonly scriptTimeoutMs: number | null;
  readonly afterScriptTimeoutMs: number;
  /** A failed after_script is only a warning. */
  readonly afterScriptIgnoreErrors: boolean;
  /** Show commands as they run. */
  readonly debugTrace: boolean;
  /** Show what services print. */
  readonly debugServices: boolean;
  /** Entries of several lines are shown whole, folded. */
  readonly scriptSections: boolean;
  /** `FF_ENABLE_JOB_CLEANUP`: the working copy is cleaned, or removed, when the job has ended. */
  readonly cleansUp: boolean;
  /** `FF_LOG_IMAGES_CONFIGURED_FOR_JOB`. */
  readonly logsImages: boolean;
  /** `GIT_SSL_NO_VERIFY`, which the runner's own git obeys only where its operator says so. */
  readonly sslNoVerify: boolean;
  /** Settings that could not be used and what is done instead, one sentence each. */
  readonly warnings: readonly string[];
  /** Settings without which the job would not be what its author asked for: the job fails with this text. */
  readonly problem: string | null;
}

/** The feature flag that lets a job run without secrets that are not there. */
export const MISSING_SWITCH = "FF_SECRET_RESOLVING_FAILS_IF_MISSING";
const DEFAULT_CACHE_MINUTES = 10;
/** How GitLab Runner moves what is large. */
const PIECE_KEYS = ["CACHE_CHUNK_SIZE", "CACHE_CONCURRENCY", "CACHE_TRANSFER_BUFFER_SIZE"];
const DEFAULT_AFTER_SCRIPT_MS = 5 * 60_000;
const LONGEST_MS = 30 * 24 * 3_600_000;

export interface SettingsOptions {
  /** Value of a variable of the job, expanded. */
  get(key: string): string | undefined;
  /** The operator forbids `CI_DEBUG_TRACE` (`debug_trace_disabled`). */
  readonly debugTraceDisabled: boolean;
  /** `[runners.feature_flags]` of the entry. */
  readonly featureFlags?: EntryFlags | undefined;
  /** Jobs may choose their directory. */
  readonly customBuildDir?: boolean | undefined;
}

/** Read what the job's variables steer. Never throws: what cannot be read is a warning and its default, or `problem`. */
export function readSettings(
  job: Job,
  { get, debugTraceDisabled, featureFlags, customBuildDir }: SettingsOptions,
): JobSettings {
  const read = createSettingsReader(get);
  // AlloyCI knows none of GitLab's switches, and its projects may call what they like so.
  if (job.dialect === "gitlab") sayUnheeded(job, featureFlags, read);
  const git = readGitSettings(job, { featureFlags, customBuildDir }, read);
  const attempts = {
    getSources: read.attempts("GET_SOURCES_ATTEMPTS"),
    restoreCache: read.attempts("RESTORE_CACHE_ATTEMPTS"),
    downloadArtifacts: read.attempts("ARTIFACT_DOWNLOAD_ATTEMPTS"),
  };
  let debugTrace = read.flag("CI_DEBUG_TRACE", false);
  if (debugTrace && debugTraceDisabled) {
    debugTrace = false;
    read.warn("CI_DEBUG_TRACE is switched off by the configuration of this runner (debug_trace_disabled).");
  }
  let debugServices = read.flag("CI_DEBUG_SERVICES", false);
  if (debugServices && debugTraceDisabled) {
    debugServices = false;
    read.warn("CI_DEBUG_SERVICES is switched off by the configuration of this runner (debug_trace_disabled).");
  }
  const scriptTimeoutMs = readTimeout("RUNNER_SCRIPT_TIMEOUT", job, read);
  const afterScriptTimeoutMs = readTimeout("RUNNER_AFTER_SCRIPT_TIMEOUT", job, read) ?? DEFAULT_AFTER_SCRIPT_MS;
  return {
    git,
    attempts,
    secrets: {
      attempts: read.attempts("SECRETS_RETRIEVAL_ATTEMPTS", SECRET_ATTEMPTS),
      mustExist: read.flag(MISSING_SWITCH, true),
    },
    cache: readCacheSettings(featureFlags, read),
    artifactLevel: read.choice("ARTIFACT_COMPRESSION_LEVEL", compressionLevels, "default"),
    scriptTimeoutMs,
    afterScriptTimeoutMs,
    afterScriptIgnoreErrors: read.flag("AFTER_SCRIPT_IGNORE_ERRORS", true),
    debugTrace,
    debugServices,
    scriptSections: job.features.traceSections && featureFlag("FF_SCRIPT_SECTIONS", featureFlags, read),
    cleansUp: featureFlag("FF_ENABLE_JOB_CLEANUP", featureFlags, read),
    logsImages: featureFlag("FF_LOG_IMAGES_CONFIGURED_FOR_JOB", featureFlags, read),
    sslNoVerify: read.flag("GIT_SSL_NO_VERIFY", false),
    warnings: read.warnings,
    problem: read.problems.length === 0 ? null : read.problems.join(" "),
  };
}

function readGitSettings(
  job: Job,
  { featureFlags, customBuildDir = false }: Pick<SettingsOptions, "featureFlags" | "customBuildDir">,
  read: SettingsReader,
): GitSettings {
  const strategy = read.required(
    "GIT_STRATEGY",
    ["clone", "fetch", "none", "empty"],
    job.allowGitFetch ? "fetch" : "clone",
  );
  const clonePath = read.text("GIT_CLONE_PATH");
  if (!customBuildDir && clonePath !== undefined && clonePath !== read.text("CI_PROJECT_DIR")) {
    read.warn(
      "GIT_CLONE_PATH counts where the runner's entry lets jobs choose their directory (enabled = true in [runners.custom_build_dir]): the sources are in CI_PROJECT_DIR.",
    );
  }
  return {
    strategy,
    depth: read.count("GIT_DEPTH", job.git.depth),
    checkout: read.flag("GIT_CHECKOUT", true),
    cleanFlags: read.cleanFlags("GIT_CLEAN_FLAGS"),
    fetchFlags: read.gitFlags("GIT_FETCH_EXTRA_FLAGS", ["--prune", "--quiet"]),
    lfs: !read.flag("GIT_LFS_SKIP_SMUDGE", false),
    ...readGitSwitches(job, strategy, featureFlags, read),
    submodules: {
      strategy: (job.dialect === "gitlab" ? read.required : read.choice)(
        "GIT_SUBMODULE_STRATEGY",
        ["none", "normal", "recursive"],
        "none",
      ),
      depth: read.count("GIT_SUBMODULE_DEPTH", job.dialect === "gitlab" ? job.git.depth : 0),
      paths: read.words("GIT_SUBMODULE_PATHS"),
      updateFlags: read.gitFlags("GIT_SUBMODULE_UPDATE_FLAGS", []),
      forceHttps: read.flag("GIT_SUBMODULE_FORCE_HTTPS", false),
    },
  };
}

/**
 * All but these options of `git clone`, spelt out: others run programs, bring settings (`--co=core.sshCommand=…` is short for
 * `--config`), borrow objects or have the repository elsewhere, and git takes any beginning of a name that only one of them has.
 */
const NOT_FOR_CLONES =
  /^(?!(?:-[qvn46]|-j\d*|\d+|--(?:quiet|verbose|progress|no-progress|ipv4|ipv6|jobs|depth|sparse|(?:no-)?(?:single-branch|tags|reject-shallow)|also-filter-submodules)|--(?:jobs|depth)=\d+|--(?:filter|shallow-since|shallow-exclude|server-option)=.+)$)/;

function readGitSwitches(
  { dialect }: Job,
  strategy: GitStrategy,
  entry: EntryFlags | undefined,
  read: SettingsReader,
): Pick<GitSettings, "bundleUris" | "correlates" | "proactiveAuth" | "nativeClone"> {
  if (dialect !== "gitlab") return {};
  const on = (name: FeatureFlag): boolean => featureFlag(name, entry, read);
  return {
    ...(on("FF_USE_GIT_BUNDLE_URIS") ? { bundleUris: true } : {}),
    ...(on("FF_USE_GITALY_CORRELATION_ID") ? { correlates: true } : {}),
    ...(on("FF_USE_GIT_PROACTIVE_AUTH") ? { proactiveAuth: true } : {}),
    ...(strategy === "clone" && on("FF_USE_GIT_NATIVE_CLONE")
      ? { nativeClone: { flags: read.gitFlags("GIT_CLONE_EXTRA_FLAGS", [], NOT_FOR_CLONES) } }
      : {}),
  };
}

function readCacheSettings(featureFlags: EntryFlags | undefined, read: SettingsReader): CacheSettings {
  const minutes = read.text("CACHE_REQUEST_TIMEOUT");
  const isUsable = minutes !== undefined && /^\d{1,5}(?:\.\d{1,3})?$/.test(minutes) && Number(minutes) > 0;
  if (minutes !== undefined && !isUsable) {
    read.warn(
      `CACHE_REQUEST_TIMEOUT is ${quoteValue(minutes)}, expected is a number of minutes; ${DEFAULT_CACHE_MINUTES} is used.`,
    );
  }
  read.unused(PIECE_KEYS, "the runner chooses itself how large archives are moved");
  // GitLab Runner's third one is a zip, too, which others than it can rarely read.
  const format = read.choice("CACHE_COMPRESSION_FORMAT", ["", ...cacheFormats, "zipzstd"] as const, "");
  return {
    timeoutMs: (isUsable ? Number(minutes) : DEFAULT_CACHE_MINUTES) * 60_000,
    format: format === "zipzstd" ? "tarzstd" : format === "" ? null : format,
    level: read.choice("CACHE_COMPRESSION_LEVEL", compressionLevels, "default"),
    fallbackKey: read.text("CACHE_FALLBACK_KEY"),
    hashed: featureFlag("FF_HASH_CACHE_KEYS", featureFlags, read),
  };
}

/** `0s` and nothing at all mean the default, `null`. What is longer than the job may take is cut to that. */
function readTimeout(key: string, job: Job, read: SettingsReader): number | null {
  const text = read.text(key);
  if (text === undefined) return null;
  const ms = parseDuration(text);
  if (ms === undefined || ms < 0) {
    read.warn(`${key} is ${quoteValue(text)}, expected is a duration such as 90s or 1h30m; it is not used.`);
    return null;
  }
  if (ms === 0) return null;
  const longest = Math.min(job.timeoutMs, LONGEST_MS);
  if (ms <= longest) return ms;
  read.warn(
    `${key} is ${quoteValue(text)}, which is more than the job's own limit of ${formatDuration(longest)}; that is used.`,
  );
  return longest;
}

/** Text of a stranger in a message: quoted and not too long. */
function quoteValue(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}
