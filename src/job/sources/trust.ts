import { createHash } from "node:crypto";
import type { Job, Trust } from "../job.ts";

/**
 * Who can decide what a job runs, and so what it may leave for others. Told by what the coordinator itself says: a job's
 * author can add variables of the same names, but cannot take the coordinator's away, so each of them has to agree.
 */
export function trustOf(job: Pick<Job, "git" | "projectId" | "variables">): Trust {
  const values = (key: string): string[] =>
    job.variables.filter((variable) => variable.key === key).map(({ value }) => value.trim());
  const source = forkOf(job, values);
  if (source !== null) {
    return { level: "fork", source: createHash("sha256").update(source.toLowerCase()).digest("hex").slice(0, 16) };
  }
  const said = values("CI_COMMIT_REF_PROTECTED");
  const isProtected = job.git.protected ?? (said.length > 0 && said.every((value) => value === "true"));
  return { level: isProtected ? "protected" : "project", source: "" };
}

/** Whose fork the commit is from; `null` for the project's own. Where nobody says, a pull or merge request counts as one. */
function forkOf({ git, projectId }: Pick<Job, "git" | "projectId">, values: (key: string) => string[]): string | null {
  // No ref has a colon in its name: this is AlloyCI's `owner:branch`.
  const colon = git.ref.indexOf(":");
  if (colon >= 0) return git.ref.slice(0, colon);
  const projects = values("CI_MERGE_REQUEST_SOURCE_PROJECT_ID");
  const foreign = projects.find((id) => id !== projectId);
  if (foreign !== undefined) return foreign;
  const repositories = values("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY");
  const targets = values("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY");
  const elsewhere = repositories.find((one) => targets.length === 0 || targets.some((target) => target !== one));
  if (elsewhere !== undefined) return elsewhere;
  const isRequest = /^refs\/(?!heads\/|tags\/)/.test(git.ref);
  return isRequest && projects.length + repositories.length === 0 ? git.ref : null;
}
