import type { GitInfo } from "../job.ts";

/** What a job's ref is, told by its prefix: AlloyCI says `branch` for tags too. */
export type Ref =
  | { readonly kind: "branch" | "tag"; readonly name: string }
  /** `owner:branch`: a pull request from a fork; its commits are below `refs/pull/`. */
  | { readonly kind: "fork"; readonly name: string }
  /** A full ref of another kind: `refs/merge-requests/7/head`. */
  | { readonly kind: "other"; readonly name: string }
  /** None, or one that git does not allow: only the commit counts. */
  | { readonly kind: "none"; readonly name: string };

export function refOf({ ref, refType }: Pick<GitInfo, "ref" | "refType">): Ref {
  const [, kind, rest] = /^refs\/(heads|tags)\/(.*)$/s.exec(ref) ?? [];
  const name = rest ?? ref;
  if (/^[^:/\x00-\x20]+:[^:\x00-\x20]+$/.test(name) && rest === undefined) return { kind: "fork", name };
  if (!isRefName(name)) return { kind: "none", name };
  if (kind === undefined && name.startsWith("refs/")) return { kind: "other", name };
  return { kind: kind === "tags" || (kind === undefined && refType === "tag") ? "tag" : "branch", name };
}

/** git's rules (`git check-ref-format --allow-onelevel`). What passes is also no pattern and no refspec syntax. */
function isRefName(name: string): boolean {
  if (name === "" || name.length > 1000 || name === "@") return false;
  if (/[\x00-\x20\x7f~^:?*[\\]|\.\.|@\{|\/\/|^\/|\/$|\.$/.test(name)) return false;
  return name.split("/").every((part) => !part.startsWith(".") && !part.endsWith(".lock"));
}

/** Can a commit have this name? Always the whole of it: what is shorter may mean another commit tomorrow. */
export function isCommitId(sha: string, objectFormat: GitInfo["objectFormat"]): boolean {
  return (objectFormat === "sha256" ? /^[0-9a-f]{64}$/i : /^[0-9a-f]{40}$/i).test(sha);
}

/** One ref and where it is kept here; always with `+`, so that no name can pass for an option. */
export function refspecOf(ref: Ref): string | null {
  switch (ref.kind) {
    case "branch":
      return `+refs/heads/${ref.name}:refs/remotes/origin/${ref.name}`;
    case "tag":
      return `+refs/tags/${ref.name}:refs/tags/${ref.name}`;
    case "other":
      return `+${ref.name}:${ref.name}`;
    default:
      return null;
  }
}

export const ALL_BRANCHES = "+refs/heads/*:refs/remotes/origin/*";
export const ALL_TAGS = "+refs/tags/*:refs/tags/*";
/** Beside the branches, not among them: a branch may be called `1`. */
export const ALL_PULL_REQUESTS = "+refs/pull/*/head:refs/remotes/pull/*/head";

/** Server's refspecs that are no options and hold nothing but refs. */
export function soundRefspecs(refspecs: readonly string[]): string[] {
  return refspecs.filter((refspec) =>
    /^\+?[^\x00-\x20\x7f~^?[\\:-][^\x00-\x20\x7f~^?[\\:]*(?::[^\x00-\x20\x7f~^?[\\:]*)?$/.test(refspec),
  );
}
