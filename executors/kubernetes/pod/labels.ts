import type { PrepareRequest } from "../../../src/executor/prepare.ts";

/** Labels by which the runner finds its own pods and secrets again. */
export const LABELS = {
  jobKey: "alloy-runner.job-key",
  /** The state directory whose runner made it. */
  installation: "alloy-runner.installation",
  /** The process that made it. */
  process: "alloy-runner.process",
  role: "alloy-runner.role",
} as const;

/** Who makes objects: this process, of this installation. */
export interface Owner {
  readonly installation: string;
  readonly process: string;
}

const MOST = 63;

/** What the API takes for a value: other characters become `_`, and the ends are trimmed. */
export function labelValue(text: string): string {
  const trim = (value: string): string => value.replace(/^[-_.]+/, "").replace(/[-_.]+$/, "");
  return trim(trim(text.replace(/[^A-Za-z0-9._-]/g, "_")).slice(0, MOST));
}

/** Whether a key means something to a runner, so that nobody else may set it. */
export function isReserved(key: string): boolean {
  const folded = key.toLowerCase();
  const [domain = ""] = folded.split("/");
  return folded.startsWith("alloy-runner.") || domain === "runner.gitlab.com" || domain.endsWith(".runner.gitlab.com");
}

/** Labels that all objects of a job carry. */
export function ownLabels(
  { installation, process }: Owner,
  jobKey: string,
  role: "job" | "login",
): Record<string, string> {
  return {
    [LABELS.jobKey]: jobKey,
    [LABELS.installation]: installation,
    [LABELS.process]: process,
    [LABELS.role]: role,
  };
}

/** What people's policies and dashboards select pods by, as GitLab Runner names it. */
export function knownLabels(
  { job, runnerId }: Pick<PrepareRequest, "job" | "runnerId">,
  unique: string,
): Record<string, string> {
  // Policies go by these labels. The coordinator's own variables come first, and a job may set the same names after them.
  const values = new Map(job.variables.toReversed().map(({ key, value }) => [key, value]));
  const [namespace = "", ...rest] = (values.get("CI_PROJECT_NAMESPACE") ?? "").split("/");
  const known: Record<string, string> = {
    pod: unique,
    "job.runner.gitlab.com/pod": unique,
    "manager.runner.gitlab.com/id-short": runnerId,
    "project.runner.gitlab.com/id": job.projectId,
    "project.runner.gitlab.com/name": job.projectName || (values.get("CI_PROJECT_NAME") ?? ""),
    "project.runner.gitlab.com/namespace": [namespace, ...rest].join("/"),
    "project.runner.gitlab.com/namespace-id": values.get("CI_PROJECT_NAMESPACE_ID") ?? "",
    "project.runner.gitlab.com/root-namespace": namespace,
  };
  return Object.fromEntries(
    Object.entries(known)
      .map(([key, value]) => [key, labelValue(value)])
      .filter(([, value]) => value !== ""),
  );
}

export function knownAnnotations({ job }: Pick<PrepareRequest, "job">): Record<string, string> {
  const values = new Map(job.variables.map(({ key, value }) => [key, value]));
  const known: Record<string, string> = {
    "job.runner.gitlab.com/id": job.id,
    "job.runner.gitlab.com/url": values.get("CI_JOB_URL") ?? "",
    "job.runner.gitlab.com/sha": job.git.sha,
    "job.runner.gitlab.com/before_sha": job.git.beforeSha,
    "job.runner.gitlab.com/ref": job.git.ref,
    "job.runner.gitlab.com/name": job.name,
    "job.runner.gitlab.com/timeout": `${Math.round(job.timeoutMs / 1000)}s`,
    "project.runner.gitlab.com/id": job.projectId,
  };
  return Object.fromEntries(Object.entries(known).filter(([, value]) => value !== ""));
}

/** `runner-0a1b2c3d-project-7-concurrent-0`: the name that users know, as the API takes it. */
export function uniqueName(runnerId: string, projectId: string, slot: number): string {
  const project = projectId
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "-")
    .slice(0, 20);
  return `runner-${runnerId}-project-${project}-concurrent-${slot}`.slice(0, 54).replace(/-+$/, "");
}

/** Of the secret with a job's logins: found by its name, because whoever may list secrets may read all of them. */
export function loginsName(jobKey: string): string {
  return `alloy-runner-${jobKey}`;
}
