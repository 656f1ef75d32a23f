import type { ConfigProblem } from "../errors.ts";
import type { ExecutorDeps, ShellHost } from "../executor/deps.ts";
import type { Executor } from "../executor/executor.ts";
import type { KeepBudgets } from "../executor/keeping.ts";
import type { LogFormat, LogLevel } from "../log.ts";
import type { ShellName } from "../shell.ts";

/** config.toml, checked and in one set of units. Frozen; a job keeps the one it started with through any reload. */
export interface Config {
  /** The file it came from, absolute; messages name it. */
  readonly file: string;
  /** Jobs at once over all runners, ≥ 1. */
  readonly concurrent: number;
  /** TOML: `check_interval`, seconds; absent, 0 or negative is 3000. */
  readonly checkIntervalMs: number;
  readonly logLevel: LogLevel | undefined;
  readonly logFormat: LogFormat | undefined;
  /** `listen_address` or `metrics_server`, as written; empty is off. */
  readonly metricsAddress: string;
  /** `debug_endpoints`: others than root and the runner's account on this machine may look at `/debug/…`, too. */
  readonly debugEndpoints: boolean;
  /** `[web]`; null: no page is served. */
  readonly web: WebConfig | null;
  /** `[session_server]`; null: jobs have no terminal. Read at start. */
  readonly sessionServer: SessionServerConfig | null;
  readonly user: string | undefined;
  /** Absolute. */
  readonly stateDir: string;
  /** TOML: `live_key_file`, absolute. */
  readonly liveKeyFile: string | undefined;
  readonly minFreeDiskBytes: number; // TOML: `min_free_disk`, text such as "256MiB" or bytes
  readonly outboxMaxAgeMs: number; // TOML: `outbox_max_age`, text such as "7d" or seconds
  readonly shutdownTimeoutMs: number; // TOML: `shutdown_timeout`, seconds
  readonly connectionMaxAgeMs: number; // TOML: `connection_max_age`
  readonly admission: AdmissionConfig; // TOML: `[admission]`
  readonly housekeeping: KeepBudgets; // TOML: `[housekeeping]`
  /** The entries that can be used. */
  readonly runners: readonly RunnerConfig[];
  /** The others: no jobs are asked for with them. */
  readonly broken: readonly BrokenEntry[];
  /** Unknown and misspelt keys, loose file mode, tokens used twice: one sentence each, with line and nearest known key. */
  readonly warnings: readonly string[];
  /** SHA-256 of the file's bytes, by which `watchConfig` knows this version; absent where there was no file. */
  readonly textDigest?: string;
}

/** Where the live page is served, and for whom. */
export interface WebConfig {
  readonly host: string;
  readonly port: number;
  /** `null`: whoever reaches the address looks, and nobody steers. */
  readonly password: string | null;
}

/** Where the terminals of jobs are served. */
export interface SessionServerConfig {
  readonly listen: ListenAddress;
  /** Where coordinators reach it. */
  readonly advertise: { readonly host: string; readonly port: number };
  /** How long a job stays open for a terminal. */
  readonly sessionTimeoutMs: number;
  /** Absolute; null: the runner makes a certificate. */
  readonly tls: { readonly certFile: string; readonly keyFile: string } | null;
}

export interface ListenAddress {
  /** `undefined`: all of this machine. */
  readonly host: string | undefined;
  readonly port: number;
}

/** What must hold before an entry asks for a job. */
export interface AdmissionConfig {
  /** Inodes that must be free where jobs work. */
  readonly minFreeInodes: number;
  /** Percent of the last 10 s in which work waited for memory, or for a processor; `null`: any. */
  readonly maxMemoryPressure: number | null;
  readonly maxCpuPressure: number | null;
  /** What all running jobs may weigh together; may be Infinity. */
  readonly maxWeight: number;
  /** Jobs in a row that could not be prepared until their entry pauses; `null`: any number. */
  readonly maxSystemFailures: number | null;
  readonly failurePauseMs: number;
}

/** How long jobs may have waited at the coordinator: `[[runners.monitoring.job_queuing_durations]]`. */
export interface QueuingLimit {
  /** When it counts: in minutes of any of these. */
  readonly periods: readonly ((minute: Date) => boolean)[];
  /** 0: as long as they like. */
  readonly thresholdSeconds: number;
  /** Only jobs of which the coordinator says this of how many jobs of their project run; `null`: all. */
  readonly runningForProject: RegExp | null;
}

/** A `[[runners]]` entry that cannot be used as it stands. */
export interface BrokenEntry {
  /** As in `RunnerConfig`, as far as they can be read: its id where it has no name; empty without a token. */
  readonly name: string;
  readonly id: string;
  readonly executor: string;
  /** Of its first problem. */
  readonly line: number;
  /** In the order of the file. */
  readonly problems: readonly ConfigProblem[];
  /** How its coordinator is reached, where nothing is wrong with that. */
  readonly reach: EntryReach | null;
}

/** An entry's way to its coordinator. */
export type EntryReach = Pick<RunnerConfig, "url" | "token" | "tlsCaFile" | "tlsCertFile" | "tlsKeyFile" | "certsDir">;

/** Where an entry keeps caches. */
export interface CacheConfig {
  /** `cache_max_size`: all local caches together; `null` (0): as many as the disk takes. */
  readonly maxBytes: number | null;
  /** `MaxUploadedArchiveSize`: a larger archive is not uploaded; `null`: no limit. */
  readonly maxUploadBytes: number | null;
  /** `null`: caches stay on this machine, in `cache_dir`. */
  readonly bucket: BucketConfig | null;
}

export type BucketConfig = S3Bucket | GcsBucket | AzureContainer;

interface AnyBucket {
  readonly name: string;
  /** What all object names begin with, without slashes around it; may be empty. */
  readonly prefix: string;
  /** Other runners of a project see the same caches. */
  readonly shared: boolean;
}

/** A bucket of Google's, `[runners.cache.gcs]`. */
export interface GcsBucket extends AnyBucket {
  readonly kind: "gcs";
  /** `UniverseDomain`. */
  readonly domain: string;
  /** `file`: `CredentialsFile`, absolute; `undefined`: as Google's own tools find them. */
  readonly credentials:
    | { readonly from: "key"; readonly email: string; readonly privateKey: string }
    | { readonly from: "login"; readonly file: string | undefined };
}

/** A container of Azure's, `[runners.cache.azure]`. */
export interface AzureContainer extends AnyBucket {
  readonly kind: "azure";
  /** `https://account.blob.core.windows.net`. */
  readonly endpoint: URL;
  readonly account: string;
  /** `undefined`: as Azure's own tools find a login. */
  readonly accountKey: string | undefined;
}

/** A bucket that speaks S3, `[runners.cache.s3]`. */
export interface S3Bucket extends AnyBucket {
  readonly kind: "s3";
  /** `https://s3.eu-west-1.amazonaws.com`, without the bucket's name. */
  readonly endpoint: URL;
  /** `BucketLocation`; part of every signature. */
  readonly region: string;
  /** Otherwise it is learnt from the bucket. */
  readonly regionGiven: boolean;
  /** Amazon's own, whose hosts follow from the region. */
  readonly amazon: { readonly dualStack: boolean; readonly accelerate: boolean } | undefined;
  /** `https://host/bucket/key` instead of `https://bucket.host/key`. */
  readonly pathStyle: boolean;
  /** Taken for all requests, or for uploads alone. */
  readonly role: string | undefined;
  readonly uploadRole: string | undefined;
  /** `iam`: as AWS's own tools find them on this machine. */
  readonly credentials:
    | { readonly from: "iam" }
    | {
        readonly from: "key";
        readonly accessKey: string;
        readonly secretKey: string;
        readonly sessionToken: string | undefined;
      };
  readonly encryption:
    | { readonly algorithm: "AES256" | "aws:kms" | "aws:kms:dsse"; readonly keyId: string | undefined }
    | undefined;
}

/** How long an entry's token lives, and whether the runner may exchange it for a new one before that is over. */
export interface TokenLife {
  /** The coordinator's number for the runner; empty where the file does not have it. */
  readonly runnerId: string;
  /** `Date.now()` of when it was given out; `null`: not known. */
  readonly obtainedAtMs: number | null;
  /** `null`: never, as far as is known. */
  readonly expiresAtMs: number | null;
  /** Stands in the file itself, not in a variable that the file names. */
  readonly written: boolean;
  /** `rotate_token`. */
  readonly rotates: boolean;
}

/** A token that was got in exchange for one that a configuration file still has. */
export interface ExchangedToken {
  readonly token: string;
  readonly obtainedAtMs: number;
  readonly expiresAtMs: number | null;
}

/** What an entry's executor is opened with besides what the entry says. */
export type ExecutorSurroundings = Pick<ExecutorDeps, "log" | "host" | "meter"> & Pick<ShellHost, "user">;

/** One `[[runners]]` entry. */
export interface RunnerConfig {
  readonly name: string;
  readonly url: URL;
  readonly token: string;
  readonly tokenLife: TokenLife;
  /** 8 hex digits of a hash of its first token: what logs, metrics, directories and labels show. */
  readonly id: string;
  /** What GitLab Runner shows of `token`; empty where that would be too much of it. */
  readonly shortToken: string;
  /** Jobs at once of this token; TOML 0 or absent is Infinity. */
  readonly limit: number;
  readonly requestConcurrency: number;
  /** What a job of it counts against `max_weight`, ≥ 1. */
  readonly weight: number;
  /** TOML: `output_limit`, KiB; absent or 0 is 4096 KiB. */
  readonly outputLimitBytes: number;
  readonly strictCheckInterval: boolean;
  readonly unhealthyRequestsLimit: number;
  readonly unhealthyIntervalMs: number;
  readonly tlsCaFile: string | undefined;
  readonly tlsCertFile: string | undefined;
  readonly tlsKeyFile: string | undefined;
  readonly certsDir: string;
  readonly executor: string;
  readonly shell: ShellName | undefined;
  readonly buildsDir: string | undefined;
  readonly cacheDir: string | undefined;
  readonly cache: CacheConfig;
  readonly cloneUrl: string;
  readonly environment: readonly { readonly key: string; readonly value: string }[];
  /** `pre_clone_script`, or the newer `pre_get_sources_script`. */
  readonly preCloneScript: string;
  readonly postGetSourcesScript: string;
  readonly preBuildScript: string;
  readonly postBuildScript: string;
  readonly debugTraceDisabled: boolean;
  readonly prepareTimeoutMs: number | null;
  readonly getSourcesTimeoutMs: number | null;
  /** Obey `GIT_SSL_NO_VERIFY` of a job for the runner's own git calls. AlloyCI sends it with every job. */
  readonly gitSslNoVerify: boolean;
  /** The jobs' account's settings of line ends do not count for sources: `exec` hands on what is there. */
  readonly plainLineEnds?: true;
  /** TOML: `[runners.custom_build_dir]`: jobs may choose the directory of their sources. Absent: that is no matter here. */
  readonly customBuildDir?: boolean | undefined;
  /** TOML: `job_git_variables`; absent is `safe`. */
  readonly jobGitVariables?: "none" | "safe" | "all";
  /** A directory on the jobs' machine with what a fetch of all branches and tags would bring, for `git init` to copy. */
  readonly sourcesTemplate?: string;
  /** Stores of secrets that may be asked over plain HTTP: `host` or `host:port`. */
  readonly plainHttpSecretServers: readonly string[];
  readonly inheritEnvironment: readonly string[];
  readonly killLeftovers: boolean;
  /** `[labels]` and `[runners.labels]`, which GitLab shows with this machine. */
  readonly labels: Readonly<Record<string, string>>;
  /** `[runners.artifact]`; `null`: the runner's own bound. */
  readonly artifact: {
    /** For an upload as a whole. */
    readonly uploadTimeoutMs: number | null;
    /** From its last byte to the answer. */
    readonly answerTimeoutMs: number | null;
  };
  /** Its jobs may outlive the runner: what they do is kept. */
  readonly durable: boolean;
  /** `durable = true` stands in the file for it: that this cannot be is worth a warning. */
  readonly durableAsked?: true;
  /** What stands for it in the file, as JSON, with its token: for whoever has to do with a job of it when it is gone. */
  readonly written: string;
  /** The last one whose period is now counts. */
  readonly queuingLimits: readonly QueuingLimit[];
  /** `[runners.feature_flags]`: those that are true or false. They win over a job's variables of the same names. */
  readonly featureFlags: Readonly<Record<string, boolean>>;
  /** Same text: same entry. A reload leaves pollers alone whose fingerprint did not change. */
  readonly fingerprint: string;
  /** Same text: what concerns the executor is the same, and the one of before can go on. */
  readonly executorFingerprint: string;
  /** Settings are checked by now; a daemon may still be away. */
  openExecutor(around: ExecutorSurroundings): Executor;
  /** Has the executor of an earlier version of the entry take over what this one says. @returns whether it could */
  reconfigure(executor: Executor): boolean;
}
