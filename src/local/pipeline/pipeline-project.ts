/** What the jobs of a pipeline are to fetch, and how a coordinator would call it. */
export interface PipelineProject {
  /** Anything that git can clone from where the runner is: a path, a URL. */
  readonly repoUrl: string;
  readonly sha: string;
  /** Short, or full: `main`, `refs/tags/v1`. */
  readonly ref: string;
  readonly refType?: "branch" | "tag";
  readonly beforeSha?: string;
  /** Default: `project`. */
  readonly name?: string;
  /** What tells it from others of that name. Default: 1. */
  readonly id?: number;
}

export function fullRef({ ref, refType }: Pick<PipelineProject, "ref" | "refType">): string {
  if (ref.startsWith("refs/") || ref.includes(":")) return ref;
  return `refs/${refType === "tag" ? "tags" : "heads"}/${ref}`;
}
