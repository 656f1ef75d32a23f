import type { LocalCoordinator } from "../../coordinator/coordinator.ts";
import { isWire, tableAt, type Wire } from "../../coordinator/http/wire.ts";
import type { GitSpec, JobSpec, LocalJob, VariableSpec } from "../../coordinator/jobs/job.ts";
import type { PipelineProject } from "../../pipeline/pipeline-project.ts";
import { environmentSlug, groupName, slug } from "../around/predefined.ts";
import type { PipelineCase } from "../decide/case.ts";
import { expandVariables } from "../decide/expand.ts";
import type { PlannedJob } from "../plan/plan.ts";
import { forEnvironment, type ProjectVariable } from "./project-variables.ts";

export interface SpecOptions {
  /** Whose jobs they are. */
  readonly dialect: LocalCoordinator["dialect"];
  readonly project: PipelineProject;
  readonly around: PipelineCase;
  /** The project's variables, which win over those of the file. */
  readonly variables: readonly ProjectVariable[];
  /** Names of variables that no job gets. */
  readonly unset: readonly string[];
  /** What the runner must be told besides. */
  readonly runnerVariables: readonly VariableSpec[];
  readonly runnerToken: string | undefined;
  readonly timeoutSeconds: number;
  /** `CI_PIPELINE_ID`. */
  readonly pipelineId: string;
  readonly pipelineName: string | null;
}

/** The coordinator makes these up; jobs would log in with them and be refused. */
const INVENTED = ["CI_REGISTRY_PASSWORD", "CI_PIPELINE_ID"];

/** What the coordinator hands out for a job. */
export function specOfPlanned(
  job: PlannedJob,
  options: SpecOptions,
  dependencies: readonly LocalJob[],
  reported: ReadonlyMap<string, string>,
): JobSpec {
  const { repoUrl, sha, beforeSha, name, id } = options.project;
  const timeoutSeconds = job.timeoutSeconds ?? options.timeoutSeconds;
  const own =
    options.dialect === "alloy" ? ofAlloy(job, options) : ofGitlab(job, { ...options, timeoutSeconds }, reported);
  return {
    name: job.name,
    stage: job.stage,
    script: job.script,
    services: job.services,
    timeoutSeconds,
    allowFailure: job.allowFailure === true,
    dependencies,
    cache: job.caches.map(({ wire }) => wire),
    artifacts: job.artifacts?.wires ?? [],
    ...own,
    git: { repoUrl, sha, ...(beforeSha === undefined ? {} : { beforeSha }), ...own.git },
    variables: own.variables.filter(({ key }) => !options.unset.includes(key)),
    ...(job.afterScript.length === 0 ? {} : { afterScript: job.afterScript }),
    ...(job.image === null ? {} : { image: job.image }),
    ...(name === undefined ? {} : { projectName: name }),
    ...(id === undefined ? {} : { projectId: id }),
    ...(options.runnerToken === undefined ? {} : { runnerToken: options.runnerToken }),
  };
}

/** What is of one coordinator's making. */
interface OwnPart extends Pick<JobSpec, "when" | "payload"> {
  /** What comes later wins. */
  readonly variables: readonly VariableSpec[];
  readonly git: Pick<GitSpec, "ref" | "refType">;
}

/** AlloyCI hands values on as they are written, and knows the full name of the ref. */
function ofAlloy(job: PlannedJob, { project, variables, runnerVariables }: SpecOptions): OwnPart {
  const { sha, ref, refType } = project;
  return {
    when: job.when,
    variables: [
      ...runnerVariables,
      ...job.variables.map(({ key, value }) => ({ key, value })),
      ...forEnvironment(variables, undefined),
    ],
    git: { ref, ...(refType === undefined ? {} : { refType }) },
    ...(sha.length === 64 ? { payload: withSha256 } : {}),
  };
}

/** GitLab's server puts the variables of the file into one another, and predefines more. */
function ofGitlab(job: PlannedJob, options: SpecOptions, reported: ReadonlyMap<string, string>): OwnPart {
  const { project, around, variables, runnerVariables, timeoutSeconds } = options;
  const { sha, ref, refType } = project;
  return {
    variables: [
      ...runnerVariables,
      ...predefinedOf(job, around, timeoutSeconds, options),
      ...ofTheFile(job, around),
      ...[...reported].map(([key, value]) => ({ key, value })),
      ...forEnvironment(variables, job.environment?.name),
    ],
    git: {
      ref: ref.replace(/^refs\/(?:heads|tags)\//, ""),
      refType: refType ?? (ref.startsWith("refs/tags/") ? "tag" : "branch"),
    },
    payload: (payload) => adjusted(payload, job, sha, options),
  };
}

/** AlloyCI knows no such repositories; whoever can run them needs to be told. */
function withSha256(payload: Wire): Wire {
  return { ...payload, git_info: { ...tableAt(payload, "git_info"), repo_object_format: "sha256" } };
}

function adjusted(
  payload: Wire,
  job: PlannedJob,
  sha: string,
  { pipelineId, unset }: Pick<SpecOptions, "pipelineId" | "unset">,
): Wire {
  const hidden = [...INVENTED, ...unset];
  const given = Array.isArray(payload.variables) ? payload.variables : [];
  const variables = given.filter((entry: unknown) => !(isWire(entry) && hidden.includes(String(entry.key))));
  const git = isWire(payload.git_info) ? payload.git_info : {};
  return {
    ...payload,
    variables: [...variables, { key: "CI_PIPELINE_ID", value: pipelineId, public: true }],
    hooks: job.beforeSources.length === 0 ? [] : [{ name: "pre_get_sources_script", script: job.beforeSources }],
    ...(sha.length === 64 ? { git_info: { ...git, repo_object_format: "sha256" } } : {}),
  };
}

/** Predefined variables of a job, those of its pipeline among them. */
export function predefinedOf(
  job: PlannedJob,
  around: PipelineCase,
  timeout: number | null,
  { pipelineId, pipelineName }: Pick<SpecOptions, "pipelineId" | "pipelineName">,
): VariableSpec[] {
  const { environment, parallel, image } = job;
  const project = around.predefined.get("CI_PROJECT_URL");
  const own: [string, string][] = [
    ["CI_JOB_NAME", job.name],
    ["CI_JOB_NAME_SLUG", slug(job.name)],
    ["CI_JOB_GROUP_NAME", groupName(job.name)],
    ["CI_JOB_STAGE", job.stage],
    ["CI_JOB_STARTED_AT", new Date().toISOString().replace(/\.\d+Z$/, "Z")],
    ["CI_NODE_TOTAL", String(parallel?.total ?? 1)],
  ];
  if (timeout !== null) own.push(["CI_JOB_TIMEOUT", String(timeout)]);
  if (project !== undefined) own.push(["CI_PIPELINE_URL", `${project}/-/pipelines/${pipelineId}`]);
  if (pipelineName !== null) own.push(["CI_PIPELINE_NAME", pipelineName]);
  if (image !== null) own.push(["CI_JOB_IMAGE", String(image.name)]);
  if (parallel !== null) own.push(["CI_NODE_INDEX", String(parallel.index)]);
  if (job.when === "manual" || job.when === "delayed") own.push(["CI_JOB_MANUAL", "true"]);
  if (environment !== null) {
    own.push(["CI_ENVIRONMENT_NAME", environment.name], ["CI_ENVIRONMENT_SLUG", environmentSlug(environment.name)]);
    own.push(["CI_ENVIRONMENT_ACTION", environment.action]);
    if (environment.tier !== null) own.push(["CI_ENVIRONMENT_TIER", environment.tier]);
    if (environment.url !== null) own.push(["CI_ENVIRONMENT_URL", environment.url]);
  }
  return [...around.predefined, ...own].map(([key, value]) => ({ key, value, raw: key !== "CI_ENVIRONMENT_URL" }));
}

/**
 * The file's variables with one another put in, as the server does it; the runner expands those that the server does
 * not know.
 */
export function ofTheFile(job: PlannedJob, around: PipelineCase): VariableSpec[] {
  const predefined = [...around.predefined].map(([key, value]) => ({ key, value, raw: false }));
  const given = [...around.given].map(([key, value]) => ({ key, value, raw: false }));
  const expanded = expandVariables([...predefined, ...job.variables, ...given]);
  const values = "values" in expanded ? expanded.values : new Map();
  return [...new Map(job.variables.map((variable) => [variable.key, variable])).values()].map(
    ({ key, value, raw }) => ({
      key,
      value: around.given.has(key) || raw ? value : (values.get(key)?.value ?? value),
      raw,
    }),
  );
}
