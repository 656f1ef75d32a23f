import type { PrepareRequest } from "../../../src/executor/prepare.ts";

/** Labels by which the runner finds its own containers, networks and volumes again. */
export const LABELS = {
  /** The job that a thing belongs to; a thing without it is kept between jobs. */
  jobKey: "alloy-runner.job-key",
  /** The state directory whose runner made it. */
  installation: "alloy-runner.installation",
  /** The process that made it. */
  process: "alloy-runner.process",
  role: "alloy-runner.role",
  /** `<runner id>/<project id>/<slot>`: who works in a kept builds directory. */
  slot: "alloy-runner.slot",
} as const;

/** What people's own tools look for, as the Go runner and GitLab Runner name it. */
const KNOWN_PREFIX = "com.gitlab.gitlab-runner.";

type Role = "build" | "helper" | "service" | "accounts" | "network" | "volume" | "cache";

/** Who makes things: this process of this installation. */
export interface Owner {
  readonly installation: string;
  readonly process: string;
}

/** What all things of a job carry. */
export interface JobMarks {
  readonly owner: Owner;
  readonly request: Pick<PrepareRequest, "job" | "jobKey" | "runnerId" | "concurrentId" | "trust" | "formerNames">;
}

export function jobLabels({ owner, request }: JobMarks, role: Role): Record<string, string> {
  const { job, jobKey, runnerId, concurrentId } = request;
  return {
    [LABELS.jobKey]: jobKey,
    [LABELS.installation]: owner.installation,
    [LABELS.process]: owner.process,
    [LABELS.role]: role,
    [`${KNOWN_PREFIX}job.id`]: job.id,
    [`${KNOWN_PREFIX}job.sha`]: job.git.sha,
    [`${KNOWN_PREFIX}job.before_sha`]: job.git.beforeSha,
    [`${KNOWN_PREFIX}job.ref`]: job.git.ref,
    [`${KNOWN_PREFIX}project.id`]: job.projectId,
    [`${KNOWN_PREFIX}runner.id`]: runnerId,
    [`${KNOWN_PREFIX}runner.local_id`]: String(concurrentId),
    [`${KNOWN_PREFIX}type`]: role === "helper" ? "predefined" : role,
  };
}

/** Of networks, which go from job to job. */
export function networkLabels(owner: Owner, runnerId: string): Record<string, string> {
  return {
    [LABELS.installation]: owner.installation,
    [LABELS.process]: owner.process,
    [LABELS.role]: "network",
    [`${KNOWN_PREFIX}runner.id`]: runnerId,
    [`${KNOWN_PREFIX}type`]: "network",
  };
}

/** Of volumes that are kept between jobs: no job, no process, so that nothing is swept. */
export function keptLabels({ owner, request }: JobMarks, destination: string): Record<string, string> {
  return {
    [LABELS.installation]: owner.installation,
    [LABELS.role]: "cache",
    [`${KNOWN_PREFIX}project.id`]: request.job.projectId,
    [`${KNOWN_PREFIX}runner.id`]: request.runnerId,
    [`${KNOWN_PREFIX}type`]: "cache",
    [`${KNOWN_PREFIX}cache.dir`]: destination,
  };
}

const OWN_PREFIX = "alloy-runner.";

/** Whether a label of an image is one that means something to a runner; its containers would inherit it. */
function isReserved(label: string): boolean {
  return label.startsWith(OWN_PREFIX) || label.startsWith(KNOWN_PREFIX);
}

/**
 * All labels of a container: those that mean something to a runner and are not set, are empty, so that none is the image's or
 * an operator's.
 */
export function containerLabels(
  own: Readonly<Record<string, string>>,
  others: Readonly<Record<string, string>>,
  imageLabels: readonly string[],
): Record<string, string> {
  const names = [...Object.values(LABELS), ...imageLabels.filter(isReserved)];
  return { ...others, ...Object.fromEntries(names.map((name) => [name, ""])), ...own };
}

/** `runner-0a1b2c3d-project-7-concurrent-0-1b2c3d4e5f60-helper-9ab3f1`: whose it is stands in a container's name, too. */
export function containerName(unique: string, jobKey: string, role: string): string {
  return `${unique}-${jobKey.slice(-NAME_KEY)}-${role}-${Math.random().toString(16).slice(2, 8)}`;
}

const NAME_KEY = 12;

/**
 * Whether a container with these labels has the name that we give such a one. An image can bring labels, and whoever runs it by
 * hand gets them, but no name.
 */
export function isNamedByUs(names: readonly string[], labels: Readonly<Record<string, string>>): boolean {
  const middle = `-${(labels[LABELS.jobKey] ?? "").slice(-NAME_KEY)}-${labels[LABELS.role] ?? ""}-`;
  return names.some((name) => /^\/?runner-[\w.-]+$/.test(name) && name.includes(middle));
}

/** The `filters` of a list that finds what has all these labels. */
export function labelFilter(labels: Readonly<Record<string, string>>): { label: string[] } {
  return { label: Object.entries(labels).map(([name, value]) => `${name}=${value}`) };
}
