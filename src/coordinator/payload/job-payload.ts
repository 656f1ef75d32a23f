import type { Dialect, Job } from "../../job/job.ts";
import { createReader, type Fields, fieldsOf, isFields, type Reader } from "./coerce.ts";
import { type InputsSwitch, type Interpolated, withInputs } from "./inputs/interpolate.ts";
import {
  readArtifacts,
  readCache,
  readCredentials,
  readDependencies,
  readFeatures,
  readGit,
  readHooks,
  readImage,
  readPolicy,
  readSecrets,
  readServices,
  readSteps,
  readVariables,
} from "./job-parts.ts";
import { salvage } from "./salvage.ts";

const DEFAULT_TIMEOUT_MS = 7200_000;
const LONGEST_TIMEOUT_MS = 30 * 24 * 3600_000;
/** Text with more than this is parsed without looking at how its numbers are written: that takes several times as long. */
const EXACT_NUMBERS_CHARS = 2 * 1024 * 1024;

/** What the job's JSON does not say. */
export interface Arrival {
  readonly serverTls: Job["serverTls"];
  /** Used where the payload does not show which coordinator it is from. */
  readonly likelyDialect: Dialect;
  /** Why the answer is not complete, if it is not. */
  readonly cut: string | undefined;
  /** Why it is not to be parsed, if so. */
  readonly excess?: string | undefined;
  /** What the entry says of inputs of jobs. */
  readonly jobInputs?: InputsSwitch;
}

/** A job, or why there is none in `text`; the reason holds nothing of the text. */
export type Parsed = { readonly job: Job } | { readonly unreadable: string };

/**
 * The body of a 201 → Job. Never throws. An answer that cannot be understood still gives a job with a `problem`, so that
 * it can be answered, as long as its id and its token can be found.
 */
export function parseJob(text: string, arrival: Arrival): Parsed {
  const reader = createReader();
  const parsed = arrival.excess === undefined ? parseJson(text) : { value: undefined, problem: arrival.excess };
  if (isFields(parsed.value)) {
    const credentials = readCredentialsOf(parsed.value, reader);
    if (credentials !== undefined) return { job: readJob(parsed.value, credentials, reader, arrival) };
  }
  const reason = arrival.cut ?? parsed.problem ?? "its id or its token is missing";
  const found = salvage(text, ["id", "token"]);
  const credentials = usable(found.get("id"), found.get("token"));
  if (credentials === undefined) return { unreadable: reason };
  const dialect = /"ALLOY_CI"|"AlloyCI"/.test(text) ? "alloy" : arrival.likelyDialect;
  // An answer that was cut off on its way may arrive whole the next time.
  const { problemReason: _, ...job } = readJob({}, credentials, createReader(), { ...arrival, likelyDialect: dialect });
  return { job: { ...job, problem: `What the coordinator sent for this job cannot be read: ${reason}.` } };
}

interface Credentials {
  readonly id: string;
  readonly token: string;
}

function readCredentialsOf(payload: Fields, reader: Reader): Credentials | undefined {
  return usable(reader.text(payload.id, "id").replace(/\.0+$/, ""), reader.text(payload.token, "token"));
}

/** The id becomes part of a path, the token of a header. */
function usable(id: string | undefined, token: string | undefined): Credentials | undefined {
  if (id === undefined || token === undefined) return undefined;
  return /^[\w-]{1,128}$/.test(id) && /^[\x21-\x7e]{1,8192}$/.test(token) ? { id, token } : undefined;
}

function readJob(given: Fields, { id, token }: Credentials, reader: Reader, arrival: Arrival): Job {
  const inputs = withInputs(given, arrival.jobInputs);
  const { payload } = inputs;
  const info = fieldsOf(payload.job_info);
  const variables = readVariables(payload.variables, reader);
  const steps = readSteps(payload.steps, reader);
  const isAlloy = variables.some(
    ({ key, value }) => (key === "ALLOY_CI" && value === "true") || (key === "CI_SERVER_NAME" && value === "AlloyCI"),
  );
  const job = {
    id,
    token,
    dialect: isAlloy ? "alloy" : variables.length > 0 ? "gitlab" : arrival.likelyDialect,
    name: reader.name(info.name, "job_info.name"),
    // Jobs without a project must not share a directory, nor take that of the project with the same number.
    projectId: presentId(reader.name(info.project_id, "job_info.project_id")) ?? `job-${id}`,
    projectName: reader.name(info.project_name, "job_info.project_name"),
    git: readGit(payload.git_info, reader),
    allowGitFetch: reader.flag(payload.allow_git_fetch, "allow_git_fetch"),
    timeoutMs: readTimeout(fieldsOf(payload.runner_info).timeout, reader),
    variables,
    steps,
    image: readImage(payload.image, "image", reader),
    services: readServices(payload.services, reader),
    artifacts: readArtifacts(payload.artifacts, reader),
    cache: readCache(payload.cache, reader),
    credentials: readCredentials(payload.credentials, reader),
    dependencies: readDependencies(payload.dependencies, reader),
    hooks: readHooks(payload.hooks, reader),
    features: readFeatures(payload.features, reader),
    serverTls: arrival.serverTls,
    queuedSeconds: reader.number(info.time_in_queue_seconds, "job_info.time_in_queue_seconds"),
    queueSize: notNegative(reader.number(info.queue_size, "job_info.queue_size")),
    queueDepth: notNegative(reader.number(info.queue_depth, "job_info.queue_depth")),
    projectJobsRunning: countOf(info.project_jobs_running_on_instance_runners_count),
  } as const;
  const secrets = readSecrets(payload.secrets, reader);
  const policy = readPolicy(payload.policy_options, reader);
  const problem = reader.excess ?? unsupported(payload, inputs) ?? problemOf(job.steps);
  return {
    ...job,
    ...(secrets.length === 0 ? {} : { secrets }),
    ...(inputs.filled === undefined ? {} : { filledInputs: inputs.filled }),
    ...(policy === undefined ? {} : { policy }),
    ...(inputs.sensitive.length === 0 ? {} : { sensitiveInputs: inputs.sensitive }),
    warnings: reader.warnings,
    problem,
    ...(problem === null ? {} : { problemReason: "runner_configuration_error" }),
  };
}

/** A count as GitLab writes it; anything else could be a label of a metric without bound. */
function countOf(value: unknown): string | undefined {
  const text = typeof value === "number" ? String(value) : value;
  return typeof text === "string" && /^(?:\d{1,4}\+?|\+Inf)$/.test(text) ? text : undefined;
}

function notNegative(count: number | undefined): number | undefined {
  return count === undefined ? undefined : Math.max(0, count);
}

/** What its author has to change: it would fail in the same way whenever it is run here again. */
function unsupported(payload: Fields, inputs: Interpolated): string | null {
  if (isFilled(payload.run))
    return "This job is written as `run` steps, which this runner does not support; use `script`.";
  return inputs.problem;
}

/** What makes a job impossible to run as its author meant it. Running the rest would be a success that is none. */
function problemOf(steps: Job["steps"]): string | null {
  if (!steps.some((step) => step.name !== "after_script" && step.script.length > 0)) {
    return "There is nothing to run: the coordinator sent this job without a script.";
  }
  return null;
}

function isFilled(value: unknown): boolean {
  if (value === null || value === undefined || value === "" || value === false) return false;
  if (Array.isArray(value)) return value.length > 0;
  return typeof value !== "object" || Object.keys(value).length > 0;
}

function presentId(text: string): string | undefined {
  return text === "" || text === "0" ? undefined : text;
}

function readTimeout(value: unknown, reader: Reader): number {
  const seconds = reader.number(value, "runner_info.timeout") ?? 0;
  return seconds > 0 ? Math.min(seconds * 1000, LONGEST_TIMEOUT_MS) : DEFAULT_TIMEOUT_MS;
}

/** Numbers that JavaScript would write differently (`12345678901234567890`, `1.10`) come back as their text. */
function parseJson(text: string): { value: unknown; problem?: string } {
  const exact = (_key: string, value: unknown, context?: { readonly source?: unknown }): unknown =>
    typeof value === "number" && typeof context?.source === "string" && context.source !== String(value)
      ? context.source
      : value;
  try {
    return { value: text.length > EXACT_NUMBERS_CHARS ? JSON.parse(text) : JSON.parse(text, exact) };
  } catch {
    return { value: undefined, problem: text.trim() === "" ? "the answer is empty" : "the answer is not valid JSON" };
  }
}
