import { randomBytes } from "node:crypto";
import type { Dialect } from "../../../job/job.ts";
import type { Wire } from "../http/wire.ts";
import type { LocalRunner } from "../runners.ts";
import type { LocalJob } from "./job.ts";
import { listOf, type VariableSpec, variablesOf } from "./job.ts";

const NO_COMMIT = "0".repeat(40);

/**
 * The body of a 201: AlloyCI's with its typed values, `[null]`s and full refs, or GitLab's canonical one.
 * Text, because `payload` of the spec may want anything, and because ids can be larger than a number holds.
 */
export function jobPayload(job: LocalJob, runner: LocalRunner, dialect: Dialect, coordinatorUrl: string): string {
  const payload = dialect === "alloy" ? alloyPayload(job, runner) : gitlabPayload(job, runner, coordinatorUrl);
  const { payload: change } = job.spec;
  const changed = typeof change === "function" ? change(payload) : { ...payload, ...change };
  if (typeof changed === "string") return changed;
  if (changed.id !== payload.id) return JSON.stringify(changed);
  const { id: _, ...rest } = changed;
  return `{"id":${job.id},${JSON.stringify(rest).slice(1)}`;
}

function alloyPayload(job: LocalJob, runner: LocalRunner): Wire {
  const { spec } = job;
  const ref = fullRef(spec.git?.ref ?? "main", spec.git?.refType ?? "branch");
  const afterScript = spec.afterScript;
  return {
    id: Number(job.id),
    token: job.token,
    allow_git_fetch: true,
    job_info: {
      name: job.name,
      stage: job.stage,
      project_id: spec.projectId ?? 1,
      project_name: spec.projectName ?? "project",
    },
    git_info: {
      // AlloyCI asks GitHub twice, so this token is another one than that in CI_REPOSITORY_URL.
      repo_url: withCredentials(spec.git?.repoUrl, "x-access-token", installationToken()),
      ref,
      before_sha: spec.git?.beforeSha ?? NO_COMMIT,
      sha: spec.git?.sha ?? NO_COMMIT,
      ref_type: "branch",
    },
    runner_info: { timeout: spec.timeoutSeconds ?? 3600 },
    variables: alloyVariables(job, runner, ref),
    steps: [
      {
        name: "script",
        script: spec.script ?? ["true"],
        timeout: spec.timeoutSeconds ?? 3600,
        when: spec.when ?? "on_success",
        allow_failure: spec.allowFailure ?? false,
      },
      ...(afterScript === undefined
        ? []
        : [{ name: "after_script", script: afterScript, timeout: 3600, when: "always", allow_failure: true }]),
    ],
    image: typeof spec.image === "string" ? { name: spec.image } : (spec.image ?? { name: null }),
    services: (spec.services ?? []).map((service) => (typeof service === "string" ? { name: service } : service)),
    artifacts: [listOf(spec.artifacts)[0] ?? null],
    cache: [listOf(spec.cache)[0] ?? null],
    dependencies: (spec.dependencies ?? []).flatMap((dependency) => {
      const file = dependency.artifacts[0];
      if (file === undefined) return [];
      // The size is a constant there.
      return [dependencyEntry(dependency, file.filename, 2500)];
    }),
  };
}

function gitlabPayload(job: LocalJob, runner: LocalRunner, coordinatorUrl: string): Wire {
  const { spec } = job;
  const { git } = spec;
  const ref = git?.ref ?? "main";
  const script = { timeout: spec.timeoutSeconds ?? 3600, when: spec.when ?? "on_success" };
  const artifacts = listOf(spec.artifacts);
  return {
    id: Number(job.id),
    token: job.token,
    allow_git_fetch: true,
    job_info: {
      id: Number(job.id),
      name: job.name,
      stage: job.stage,
      project_id: spec.projectId ?? 1,
      project_name: spec.projectName ?? "project",
      project_full_path: `group/${spec.projectName ?? "project"}`,
      time_in_queue_seconds: Math.round((Date.now() - job.enqueuedAt) / 1000),
      project_jobs_running_on_instance_runners_count: "0",
    },
    git_info: {
      repo_url: withCredentials(git?.repoUrl, "gitlab-ci-token", job.token),
      ref,
      ref_type: git?.refType ?? "branch",
      sha: git?.sha ?? NO_COMMIT,
      before_sha: git?.beforeSha ?? NO_COMMIT,
      refspecs: git?.refspecs ?? refspecs(ref, git?.refType ?? "branch", git?.depth ?? 0),
      depth: git?.depth ?? 0,
      repo_object_format: "sha1",
      protected: false,
    },
    runner_info: { timeout: spec.timeoutSeconds ?? 3600, runner_session_url: null },
    variables: gitlabVariables(job, runner, coordinatorUrl),
    steps: [
      { name: "script", script: spec.script ?? ["true"], ...script, allow_failure: spec.allowFailure ?? false },
      ...(spec.afterScript === undefined
        ? []
        : [{ name: "after_script", script: listOf(spec.afterScript), ...script, when: "always", allow_failure: true }]),
    ],
    hooks: [],
    image: typeof spec.image === "string" ? { name: spec.image, entrypoint: null } : (spec.image ?? null),
    services: (spec.services ?? []).map((service) => (typeof service === "string" ? { name: service } : service)),
    artifacts: artifacts.length === 0 ? null : artifacts,
    cache: listOf(spec.cache),
    credentials: spec.credentials ?? [],
    dependencies: (spec.dependencies ?? []).map((dependency) => {
      const file = dependency.artifacts.find(({ type }) => type === "archive");
      return file === undefined
        ? { id: Number(dependency.id), name: dependency.name, token: dependency.token }
        : dependencyEntry(dependency, file.filename, file.size);
    }),
    features: {
      trace_sections: true,
      token_mask_prefixes: ["glpat-", "gloas-", "gldt-", "glrt-", "glcbt-", "glptt-"],
      failure_reasons: [
        "unknown_failure",
        "script_failure",
        "api_failure",
        "stuck_or_timeout_failure",
        "runner_system_failure",
        "missing_dependency_failure",
        "runner_unsupported",
        "job_execution_timeout",
        "job_canceled",
      ],
    },
    inputs: [],
    policy_options: null,
  };
}

function dependencyEntry(job: LocalJob, filename: string, size: number): Wire {
  return { id: Number(job.id), name: job.name, token: job.token, artifacts_file: { filename, size } };
}

function alloyVariables(job: LocalJob, runner: LocalRunner, ref: string): Wire[] {
  const { spec } = job;
  const shown = (key: string, value: unknown): Wire => ({ key, value, public: true });
  const project = spec.projectName ?? "project";
  const tags = runner.tags;
  const own = variablesOf(spec).map((variable) => ({
    key: variable.key,
    value: variable.value,
    public: isPublic(variable),
    ...(variable.file === undefined ? {} : { file: variable.file }),
    ...(variable.raw === undefined ? {} : { raw: variable.raw }),
  }));
  return [
    shown("ALLOY_CI", "true"),
    shown("CI", "true"),
    shown("CI_COMMIT_MESSAGE", "Local commit"),
    shown("CI_COMMIT_PUSHER", "local@example.com"),
    shown("CI_COMMIT_REF_NAME", ref),
    shown("CI_COMMIT_REF_SLUG", ref.replace(/^refs\/(heads|tags)\//, "")),
    shown("CI_COMMIT_SHA", spec.git?.sha ?? NO_COMMIT),
    shown("CI_JOB_ID", job.id),
    shown("CI_JOB_NAME", job.name),
    shown("CI_JOB_STAGE", job.stage),
    { key: "CI_JOB_TOKEN", value: job.token, public: false },
    shown("CI_PIPELINE_ID", "1"),
    shown("CI_PROJECT_NAME", project),
    shown("CI_PROJECT_NAMESPACE", "local"),
    shown("CI_PROJECT_PATH", `local/${project}`),
    {
      key: "CI_REPOSITORY_URL",
      value: withCredentials(spec.git?.repoUrl, "x-access-token", installationToken()),
      public: false,
    },
    shown("CI_RUNNER_ID", String(runner.id)),
    shown("CI_RUNNER_TAGS", tags === null || tags.length === 0 ? null : tags.join(", ")),
    shown("CI_SERVER_NAME", "AlloyCI"),
    shown("CI_SERVER_VERSION", "0.9.1"),
    shown("GIT_SSL_NO_VERIFY", "true"),
    ...(spec.git === undefined ? [shown("GIT_STRATEGY", "none")] : []),
    ...own,
  ];
}

function gitlabVariables(job: LocalJob, runner: LocalRunner, coordinatorUrl: string): Wire[] {
  const { spec } = job;
  const entry = (key: string, value: string, secret = false): Wire => ({ key, value, public: !secret, masked: secret });
  const ref = spec.git?.ref ?? "main";
  const project = spec.projectName ?? "project";
  return [
    entry("CI_PIPELINE_ID", "1"),
    entry("CI_JOB_ID", job.id),
    entry("CI_JOB_TOKEN", job.token, true),
    entry("CI_REGISTRY_PASSWORD", job.token, true),
    entry("CI_REPOSITORY_URL", withCredentials(spec.git?.repoUrl, "gitlab-ci-token", job.token), true),
    entry("CI", "true"),
    entry("GITLAB_CI", "true"),
    entry("CI_SERVER_URL", coordinatorUrl),
    entry("CI_SERVER_NAME", "GitLab"),
    entry("CI_SERVER_VERSION", "18.4.0"),
    entry("CI_JOB_NAME", job.name),
    entry("CI_JOB_STAGE", job.stage),
    entry("CI_PROJECT_ID", String(spec.projectId ?? 1)),
    entry("CI_PROJECT_NAME", project),
    entry("CI_PROJECT_NAMESPACE", "group"),
    entry("CI_PROJECT_PATH", `group/${project}`),
    entry("CI_COMMIT_SHA", spec.git?.sha ?? NO_COMMIT),
    entry("CI_COMMIT_REF_NAME", ref),
    entry(
      "CI_COMMIT_REF_SLUG",
      ref
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, "-")
        .slice(0, 63),
    ),
    ...(spec.git?.refType === "tag" ? [entry("CI_COMMIT_TAG", ref)] : [entry("CI_COMMIT_BRANCH", ref)]),
    entry("CI_RUNNER_ID", String(runner.id)),
    entry("CI_RUNNER_TAGS", JSON.stringify(runner.tags ?? [])),
    ...(spec.git === undefined ? [entry("GIT_STRATEGY", "none")] : []),
    ...variablesOf(spec).map((variable) => ({
      key: variable.key,
      value: textOf(variable.value),
      public: isPublic(variable),
      masked: variable.masked ?? false,
      file: variable.file ?? false,
      raw: variable.raw ?? false,
    })),
  ];
}

function isPublic(variable: VariableSpec): boolean {
  return variable.public ?? variable.masked !== true;
}

function textOf(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function fullRef(ref: string, type: "branch" | "tag"): string {
  if (ref.startsWith("refs/") || ref.includes(":")) return ref;
  return `refs/${type === "tag" ? "tags" : "heads"}/${ref}`;
}

function refspecs(ref: string, type: "branch" | "tag", depth: number): string[] {
  if (ref.startsWith("refs/")) return [`+${ref}:${ref}`];
  if (depth === 0) return ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
  return [type === "tag" ? `+refs/tags/${ref}:refs/tags/${ref}` : `+refs/heads/${ref}:refs/remotes/origin/${ref}`];
}

/** `https://x/y.git` → `https://user:password@x/y.git`; paths and URLs that have a user stay as they are. */
function withCredentials(repoUrl: string | undefined, user: string, password: string): string {
  const [, scheme, rest = ""] = /^(https?:\/\/)(.*)$/.exec(repoUrl ?? "") ?? [];
  if (scheme === undefined) return repoUrl ?? "";
  return /^[^/]*@/.test(rest) ? `${scheme}${rest}` : `${scheme}${user}:${encodeURIComponent(password)}@${rest}`;
}

function installationToken(): string {
  return `v1.${randomBytes(20).toString("hex")}`;
}
