import type { FailureReason } from "../errors.ts";

/**
 * A received job, as the rest of the runner sees it: canonical, complete, no snake_case, no nulls for lists.
 * `coordinator/wire.ts` makes it out of whatever came over the wire. Plain data, also in the journal.
 */

/** Which coordinator speaks: they differ in spelling, trace storage and offsets. */
export type Dialect = "alloy" | "gitlab";

export interface Job {
  /** As received, digit for digit: may exceed 2^53. */
  readonly id: string;
  readonly token: string;
  readonly dialect: Dialect;
  readonly name: string;
  readonly projectId: string;
  readonly projectName: string;
  readonly git: GitInfo;
  readonly allowGitFetch: boolean;
  /** Time limit of the whole job, already defaulted and clamped to 30 days. */
  readonly timeoutMs: number;
  readonly variables: readonly Variable[];
  readonly steps: readonly Step[];
  readonly image: Image | null;
  readonly services: readonly Service[];
  readonly artifacts: readonly Artifact[];
  readonly cache: readonly Cache[];
  readonly credentials: readonly RegistryCredential[];
  readonly dependencies: readonly Dependency[];
  readonly hooks: readonly Hook[];
  readonly features: CoordinatorFeatures;
  /** Certificates that the job's own calls to the coordinator need, as PEM text; empty over plain HTTP. */
  readonly serverTls: ServerTls;
  /** Seconds the job waited at the coordinator, if it said so. */
  readonly queuedSeconds: number | undefined;
  /** Of the coordinator's queue when it handed out the job, if it said so: jobs that wait, and how many it looked at. */
  readonly queueSize?: number | undefined;
  readonly queueDepth?: number | undefined;
  /** Jobs of its project that runners of the whole instance run, as the coordinator says it: `3`, `5+`, `+Inf`. */
  readonly projectJobsRunning?: string | undefined;
  /** What had to be coerced or left out, one sentence each, for the top of the trace. */
  readonly warnings: readonly string[];
  /** Why this job cannot be run at all, although it can be answered; `null` for a sound one. */
  readonly problem: string | null;
  /** Set where another try on this runner would end alike: the job asks for what the runner cannot do. */
  readonly problemReason?: "runner_configuration_error";
  /** Absent: none. */
  readonly secrets?: readonly SecretRequest[];
  /** Absent: it has no inputs, or they were not to be put in. */
  readonly filledInputs?: FilledInputs;
  /** Set where a security policy has put the job into the pipeline. */
  readonly policy?: PolicyOptions;
  /** Texts of inputs that their author calls sensitive. */
  readonly sensitiveInputs?: readonly string[];
  /** Under which the coordinator's log has the request that brought it. */
  readonly correlationId?: string;
  /** As received, where its executor wants it. Holds secrets. */
  readonly payload?: string;
}

/** How it went to put a job's inputs into its texts. */
export interface FilledInputs {
  /** Those in which an expression stood. */
  readonly texts: number;
  /** What was wrong with the first one that could not be used. */
  readonly failure?: "parse" | "evaluation" | "sensitive_unsupported";
}

export interface ServerTls {
  readonly ca?: string;
  /** `ca` is what the operator trusts (`tls-ca-file`), not just what the coordinator showed. */
  readonly caConfigured?: true;
  readonly cert?: string;
  readonly key?: string;
}

export interface GitInfo {
  /** May carry credentials. */
  readonly repoUrl: string;
  readonly ref: string;
  readonly refType: "branch" | "tag";
  readonly sha: string;
  readonly beforeSha: string;
  readonly refspecs: readonly string[];
  /** 0 is the whole history. */
  readonly depth: number;
  readonly objectFormat: "sha1" | "sha256";
  /** Whether the ref is protected; `null` where the coordinator does not say. */
  readonly protected: boolean | null;
}

/** Jobs of one trust may find what others of it left; those of another find nothing of it. */
export interface Trust {
  /** `fork`: a pull or merge request from another project; `protected`: a ref that the coordinator protects. */
  readonly level: "project" | "protected" | "fork";
  /** Stands for the fork, `[0-9a-f]{16}`; empty for the project's own. */
  readonly source: string;
}

/** Phases of a job, as sections of its trace and metrics name them. */
export type StageName = string;

/** What GitLab Runner calls a stage: drivers, dashboards and programs around it compare the names. */
export function peerStage(name: StageName, failed: boolean): string {
  switch (name) {
    case "build_script":
      return "step_script";
    case "archive_cache":
      return failed ? "archive_cache_on_failure" : "archive_cache";
    case "upload_artifacts":
      return failed ? "upload_artifacts_on_failure" : "upload_artifacts_on_success";
    default:
      return name;
  }
}

export interface Variable {
  readonly key: string;
  readonly value: string;
  readonly public: boolean;
  readonly file: boolean;
  readonly masked: boolean;
  /** `$NAME` in the value stays as it is. */
  readonly raw: boolean;
}

export type When = "on_success" | "on_failure" | "always";

/** A script that the coordinator sent: `script`, `after_script`, or another name. */
export interface Step {
  readonly name: string;
  readonly script: readonly string[];
  readonly timeoutMs: number | null;
  readonly when: When;
  readonly allowFailure: boolean;
}

export interface Image {
  readonly name: string;
  readonly entrypoint: readonly string[] | null;
  readonly pullPolicies: readonly string[];
  /** `docker.user` and `docker.platform` of the image's options, if the coordinator sent them. */
  readonly user: string | null;
  readonly platform: string | null;
  /** `kubernetes.user`, if the coordinator sent it: who runs it in a pod. */
  readonly kubernetesUser?: string;
}

export interface Service extends Image {
  readonly aliases: readonly string[];
  readonly command: readonly string[] | null;
  readonly variables: readonly Variable[];
}

export interface Artifact {
  /** Empty: `artifacts`. */
  readonly name: string;
  readonly untracked: boolean;
  readonly paths: readonly string[];
  readonly exclude: readonly string[];
  readonly when: When;
  readonly expireIn: string;
  readonly type: string;
  readonly format: "zip" | "gzip" | "raw";
}

export interface Cache {
  /** Empty: `<job name>/<ref>`. */
  readonly key: string;
  readonly untracked: boolean;
  readonly paths: readonly string[];
  /** `pull-push`, `pull` or `push` once its variables are expanded. */
  readonly policy: string;
  readonly when: When;
  readonly fallbackKeys: readonly string[];
}

export interface RegistryCredential {
  readonly url: string;
  readonly username: string;
  readonly password: string;
}

export interface Dependency {
  readonly id: string;
  readonly name: string;
  readonly token: string;
  readonly file: { readonly name: string; readonly size: number } | null;
}

export interface Hook {
  readonly name: "pre_get_sources_script" | "post_get_sources_script";
  readonly script: readonly string[];
}

/** What a policy's job says of its policy. */
export interface PolicyOptions {
  readonly name: string;
  /** Whether users' variables win over the policy's; `null`: it does not say, and the policy's win. */
  readonly overrideAllowed: boolean | null;
  /** Names of variables for which it is the other way round. */
  readonly exceptions: readonly string[];
}

/** A variable whose value is kept in a store of secrets. */
export interface SecretRequest {
  /** Of the variable. */
  readonly name: string;
  readonly file: boolean;
  /** The store as GitLab calls it: `vault`; empty where none is named. */
  readonly from: string;
  /** The job's own words for that store. */
  readonly wanted: unknown;
}

export interface CoordinatorFeatures {
  readonly traceSections: boolean;
  readonly failureReasons: readonly string[];
  readonly tokenMaskPrefixes: readonly string[];
}

/** Names a job at its coordinator; all that reporting needs. */
export interface JobCredentials {
  readonly id: string;
  readonly token: string;
  readonly dialect: Dialect;
  /** Its trace may show secrets (`CI_DEBUG_TRACE`, `CI_DEBUG_SERVICES`): GitLab is told so with each piece of it. */
  readonly debugTrace?: boolean;
}

/** How a job ended, decided once. */
export type Outcome =
  | { readonly result: "success" }
  | { readonly result: "canceled"; readonly message: string }
  | {
      readonly result: "failed";
      readonly reason: FailureReason;
      readonly message: string;
      readonly exitCode?: number;
    };

/** How a job ended, without the words: they may quote what the job said. */
export type JobResult =
  | { readonly result: "success" | "canceled"; readonly message?: never }
  | {
      readonly result: "failed";
      readonly reason: FailureReason;
      readonly exitCode?: number;
      readonly message?: never;
    };

/** What a job has used, as far as that is known. */
export interface JobUsage {
  readonly cpuSeconds?: number;
  readonly peakMemoryBytes?: number;
  /** In use at this moment; not of a job that has ended. */
  readonly memoryBytes?: number;
  readonly readBytes?: number;
  readonly writtenBytes?: number;
  /** How long it waited for images. */
  readonly imageSeconds?: number;
}

/** Both, one after the other or side by side: of memory the larger peak is known to have been there. */
export function addUsage(a: JobUsage, b: JobUsage): JobUsage {
  const plus = (x: number | undefined, y: number | undefined): number | undefined =>
    x === undefined ? y : y === undefined ? x : x + y;
  const cpuSeconds = plus(a.cpuSeconds, b.cpuSeconds);
  const readBytes = plus(a.readBytes, b.readBytes);
  const writtenBytes = plus(a.writtenBytes, b.writtenBytes);
  const imageSeconds = plus(a.imageSeconds, b.imageSeconds);
  const memoryBytes = plus(a.memoryBytes, b.memoryBytes);
  const peaks = [a.peakMemoryBytes, b.peakMemoryBytes].filter((bytes) => bytes !== undefined);
  return {
    ...(cpuSeconds === undefined ? {} : { cpuSeconds }),
    ...(peaks.length === 0 ? {} : { peakMemoryBytes: Math.max(...peaks) }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
    ...(readBytes === undefined ? {} : { readBytes }),
    ...(writtenBytes === undefined ? {} : { writtenBytes }),
    ...(imageSeconds === undefined ? {} : { imageSeconds }),
  };
}

/** Where a job is: what its life tells to those who look at it. Nothing of it is secret. */
export type JobProgress =
  | { readonly at: "received" }
  /** Its secrets are asked for, before it has a place. */
  | { readonly at: "resolving" }
  | { readonly at: "preparing"; readonly attempt: number }
  /** `failed`: something before has decided that it fails. */
  | { readonly at: "running"; readonly stage: string; readonly failed?: true }
  /** Set once, when everything that could decide it has ended. */
  | { readonly at: "finished"; readonly outcome: JobResult; readonly usage?: JobUsage }
  /** Its slot is free; the coordinator has not heard the last report yet. */
  | { readonly at: "delivering"; readonly outcome: JobResult };
