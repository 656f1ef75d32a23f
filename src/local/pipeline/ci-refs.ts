import type { CiJob } from "./ci-file.ts";

/**
 * Whether AlloyCI makes `job` for a push of `ref`, a full one: `refs/heads/main`, `refs/tags/v1`, or `owner:branch`.
 * Entries of `only` and `except` are `branches`, `tags`, `forks`, or expressions without slashes around them, tried
 * unanchored on the whole ref and on its last part; what is no expression matches nothing.
 */
export function runsOn(job: Pick<CiJob, "only" | "except">, ref: string): boolean {
  const matches = (entry: string): boolean => {
    if (entry === "branches") return ref.startsWith("refs/heads/");
    if (entry === "tags") return ref.startsWith("refs/tags/");
    if (entry === "forks") return isFork(ref);
    try {
      const expression = new RegExp(entry);
      return expression.test(ref) || expression.test(ref.slice(ref.lastIndexOf("/") + 1));
    } catch {
      return false;
    }
  };
  return (job.only === null || job.only.some(matches)) && !job.except.some(matches);
}

function isFork(ref: string): boolean {
  return !ref.startsWith("refs/") && ref.includes(":");
}
