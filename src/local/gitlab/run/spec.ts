import { isWire, type Wire } from "../../coordinator/http/wire.ts";
import type { JobSpec, LocalJob, VariableSpec } from "../../coordinator/jobs/job.ts";
import type { PipelineProject } from "../../pipeline/pipeline.ts";
import { environmentSlug, groupName, slug } from "../around/predefined.ts";
import type { PipelineCase } from "../decide/case.ts";
import { expandVariables } from "../decide/expand.ts";
import type { PlannedJob } from "../plan/plan.ts";
import { forEnvironment, type ProjectVariable } from "./project-variables.ts";

export interface SpecOptions {
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

/** What the coordinator hands out for a job: GitLab's own payload. */
export function specOfPlanned(
  job: PlannedJob,
  options: SpecOptions,
  dependencies: readonly LocalJob[],
  reported: ReadonlyMap<string, string>,
): JobSpec {
  const { project, around, variables, runnerVariables, unset } = options;
  const { repoUrl, sha, ref, refType, beforeSha, name, id } = project;
  const timeout = job.timeoutSeconds ?? options.timeoutSeconds;
  return {
    name: job.name,
    stage: job.stage,
    script: job.script,
    variables: [
      ...runnerVariables,
      ...predefinedOf(job, around, timeout, options),
      ...ofTheFile(job, around),
      ...[...reported].map(([key, value]) => ({ key, value })),
      ...forEnvironment(variables, job.environment?.name),
    ].filter(({ key }) => !unset.includes(key)),
    git: {
      repoUrl,
      sha,
      ref: ref.replace(/^refs\/(?:heads|tags)\//, ""),
      refType: refType ?? (ref.startsWith("refs/tags/") ? "tag" : "branch"),
      ...(beforeSha === undefined ? {} : { beforeSha }),
    },
    services: job.services,
    timeoutSeconds: timeout,
    allowFailure: job.allowFailure === true,
    dependencies,
    cache: job.caches.map(({ wire }) => wire),
    artifacts: job.artifacts?.wires ?? [],
    ...(job.afterScript.length === 0 ? {} : { afterScript: job.afterScript }),
    ...(job.image === null ? {} : { image: job.image }),
    ...(name === undefined ? {} : { projectName: name }),
    ...(id === undefined ? {} : { projectId: id }),
    ...(options.runnerToken === undefined ? {} : { runnerToken: options.runnerToken }),
    payload: (payload) => adjusted(payload, job, sha, options),
  };
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
