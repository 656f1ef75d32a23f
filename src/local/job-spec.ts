import type { LocalJob } from "./job.ts";
import type { Wire } from "./wire.ts";

/** A variable of a job. On AlloyCI the value travels with its type, on GitLab as text. */
export interface VariableSpec {
  readonly key: string;
  readonly value: unknown;
  /** Default: true, unless it is masked. */
  readonly public?: boolean;
  /** AlloyCI has no such thing: there a masked variable is one that is not public. */
  readonly masked?: boolean;
  readonly file?: boolean;
  readonly raw?: boolean;
}

/** Where the sources are. Without one, the job gets `GIT_STRATEGY=none`. */
export interface GitSpec {
  /** Anything git takes: a path, `file://…`, `https://…`. HTTP ones get the coordinator's kind of credentials. */
  readonly repoUrl: string;
  readonly sha: string;
  /** Short: `main`. AlloyCI sends it as `refs/heads/main`, unless it is `refs/…` or `owner:branch` already. */
  readonly ref?: string;
  readonly beforeSha?: string;
  readonly refType?: "branch" | "tag";
  /** GitLab only. Default: what GitLab sends for a branch or tag. */
  readonly refspecs?: readonly string[];
  /** GitLab only. Default: 0, the whole history. */
  readonly depth?: number;
}

/** A job to hand out; every field has a default. What is typed `Wire` or `unknown` travels as it is, like YAML on AlloyCI. */
export interface JobSpec {
  readonly name?: string;
  readonly stage?: string;
  /** Default: `["true"]`. */
  readonly script?: readonly string[];
  /** A single text stays one on AlloyCI, where YAML travels as it was written; GitLab makes a list of it. */
  readonly afterScript?: string | readonly string[];
  readonly variables?: readonly VariableSpec[] | Readonly<Record<string, unknown>>;
  readonly git?: GitSpec;
  /** Default: 3600, the only value that AlloyCI knows. */
  readonly timeoutSeconds?: number;
  readonly image?: string | Wire;
  readonly services?: readonly (string | Wire)[];
  /** AlloyCI sends the first only. */
  readonly artifacts?: Wire | readonly Wire[];
  readonly cache?: Wire | readonly Wire[];
  /** Jobs whose artifacts are fetched first. */
  readonly dependencies?: readonly LocalJob[];
  /** GitLab only. */
  readonly credentials?: readonly Wire[];
  readonly when?: string;
  readonly allowFailure?: boolean;
  readonly projectId?: number;
  readonly projectName?: string;
  /** Runner selection. Default: none. */
  readonly tags?: readonly string[] | null;
  /** Hand it to the runner with this token and to nobody else. */
  readonly runnerToken?: string;
  /** Digits; default: the next number. */
  readonly id?: string;
  readonly token?: string;
  /**
   * The last word on the 201 body: keys to replace (`undefined` removes one), or a function of the finished payload.
   * A text is sent as it is, JSON or not.
   */
  readonly payload?: Wire | ((payload: Wire) => Wire | string);
}

export function variablesOf(spec: JobSpec): readonly VariableSpec[] {
  const given = spec.variables ?? [];
  return isList(given) ? given : Object.entries(given).map(([key, value]) => ({ key, value }));
}

/** One or several → several. */
export function listOf<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return isList(value) ? value : [value];
}

function isList<T, U>(value: readonly T[] | U): value is readonly T[] {
  return Array.isArray(value);
}
