/** What the runner says → coordinator JSON, and the coordinator's words → ours. */
import type { FailureReason } from "../errors.ts";
import type { Dialect } from "../job/job.ts";
import type { JobUpdate, RemoteStatus, RunnerInfo } from "./contract.ts";
import type { Identity } from "./identity.ts";

/** What this runner does, whatever the executor: GitLab fails jobs that need more than the runner says it can. */
const features = {
  artifacts: true,
  cache: true,
  upload_multiple_artifacts: true,
  upload_raw_artifacts: true,
  artifacts_exclude: true,
  fallback_cache_keys: true,
  refspecs: true,
  masking: true,
  raw_variables: true,
  multi_build_steps: true,
  return_exit_code: true,
  trace_reset: true,
  trace_checksum: true,
  trace_size: true,
  cancelable: true,
  cancel_gracefully: true,
  two_phase_job_commit: true,
  job_inputs: true,
  vault_secrets: true,
} as const;

/**
 * `info` without an executor. AlloyCI casts this object onto the runner's row: a key such as `description`, `token`,
 * `tags`, `active`, `global`, `locked`, `project_id`, `run_untagged` or `contacted_at` would overwrite the runner.
 */
export function identityInfo(identity: Identity): Readonly<Record<string, unknown>> {
  const { name, version, revision, platform, architecture } = identity;
  return { name, version, revision, platform, architecture };
}

/** `info` of a job request. */
export function runnerInfo(
  identity: Identity,
  info: RunnerInfo,
): Readonly<Record<string, unknown>> & { readonly features: Readonly<Record<string, boolean>> } {
  const { variables, image, services, shared } = info.features;
  return {
    ...identityInfo(identity),
    executor: info.executor,
    shell: info.shell,
    ...(info.labels === undefined || Object.keys(info.labels).length === 0 ? {} : { labels: info.labels }),
    features: {
      variables,
      image,
      services,
      shared,
      ...(image ? { image_executor_opts: true } : {}),
      ...(services ? { service_executor_opts: true, service_variables: true, service_multiple_aliases: true } : {}),
      ...features,
    },
  };
}

/**
 * The token as a header, too, as GitLab Runner sends it: what stands before a coordinator may go by it. None for a token that no
 * header can have; the coordinator refuses it by the body.
 */
export function runnerTokenHeader(token: string): readonly string[] {
  return /^[\x21-\x7e]{1,8192}$/.test(token) ? ["runner-token", token] : [];
}

/**
 * `Job-Status` → what it means for us. AlloyCI spells a cancellation `cancelled` and knows no other; GitLab says
 * `canceling` while after_script may still run, and `canceled` when the job is over.
 */
export function remoteStatus(word: string | undefined): RemoteStatus {
  switch (word?.trim().toLowerCase()) {
    case "canceling":
    case "cancelled":
      return "canceling";
    case "canceled":
    case "failed":
    case "success":
    case "skipped":
      return "gone";
    default:
      return "running";
  }
}

/** These two are as old as the protocol; GitLab takes the third from every runner that can name it. */
const alwaysKnown: readonly string[] = ["script_failure", "runner_system_failure", "job_execution_timeout"];

/** The nearest reason that a coordinator knows: older ones refuse others. `known` is its `features.failure_reasons`. */
export function failureReason(reason: FailureReason, known: readonly string[]): FailureReason {
  if (alwaysKnown.includes(reason) || known.includes(reason)) return reason;
  // A GitLab that is too old for it repeats a failure of the system, which would be in vain.
  if (reason === "runner_configuration_error" && known.length > 0) return "script_failure";
  return reason === "job_canceled" ? "script_failure" : "runner_system_failure";
}

/** The body of PUT jobs/:id but for `trace`, as text that ends with `}`. */
export function updateBody(token: string, update: JobUpdate, identity: Identity): string {
  const failed = update.state === "failed";
  const output = { checksum: update.checksum, bytesize: update.bytes === 0 ? undefined : update.bytes };
  return JSON.stringify({
    token,
    state: update.state,
    failure_reason: failed ? failureReason(update.reason ?? "script_failure", update.knownReasons ?? []) : undefined,
    exit_code: failed && update.exitCode !== 0 ? update.exitCode : undefined,
    checksum: update.checksum,
    output: output.checksum === undefined && output.bytesize === undefined ? undefined : output,
    info: identityInfo(identity),
  });
}

/** Bytes `[from, from + length)` as `Content-Range` wants them: the end is inclusive, an empty piece names its place. */
export function contentRange(from: number, length: number): string {
  return `${from}-${Math.max(from, from + length - 1)}`;
}

/**
 * `Range: 0-<size>` of a 416 → the byte to send next, as it stands there: whoever sends the trace knows what can be true.
 * @returns `from` where the header is missing or makes no sense
 */
export function nextByte(range: string | undefined, dialect: Dialect, from: number): number {
  // AlloyCI answers `Range: 0-100` to everything.
  const size = dialect === "alloy" ? undefined : /^\s*(?:bytes[ =])?\d+-(\d+)\s*$/.exec(range ?? "")?.[1];
  if (size === undefined) return from;
  const next = Number(size);
  return Number.isSafeInteger(next) ? next : from;
}

/** Seconds as a header value → milliseconds within bounds. */
export function interval(seconds: string | undefined, bounds: { leastMs: number; mostMs: number }): number | undefined {
  if (seconds === undefined || !/^\s*\d+(\.\d+)?\s*$/.test(seconds)) return undefined;
  return Math.min(Math.max(Number(seconds) * 1000, bounds.leastMs), bounds.mostMs);
}
