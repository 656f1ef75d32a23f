import { readdir } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import type { Git } from "../../sources/git.ts";
import type { WorkingTree } from "../../sources/working-tree.ts";

/** What git knows of a project, as far as a pipeline is decided by it. */
export interface ProjectFacts {
  /** `null`: nothing was committed yet. */
  readonly sha: string | null;
  /** `null`: it is the first commit. */
  readonly parent: string | null;
  readonly message: string;
  /** `Name <mail>`. */
  readonly author: string;
  readonly timestamp: string;
  readonly defaultBranch: string;
  /** The server's host and the project's path, from the address of a remote; `null`: there is no remote. */
  readonly remote: { readonly host: string; readonly path: string; readonly address: string } | null;
  readonly user: { readonly login: string; readonly name: string; readonly email: string };
  /** All files, also untracked ones that git does not ignore, sorted. */
  readonly files: readonly string[];
}

/** @param git in the project's directory */
export async function gatherFacts(
  tree: WorkingTree,
  git: Git,
  env: Readonly<Record<string, string | undefined>>,
): Promise<ProjectFacts> {
  const head = tree.repository?.head ?? null;
  const [listed, shown, defaultBranch, remote, name, email] = await Promise.all([
    tree.repository === null
      ? filesBelow(tree.dir)
      : git(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]),
    head === null
      ? ""
      : git(["log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%P%x00%an <%ae>%x00%cI%x00%B", head]),
    findDefaultBranch(tree, git),
    findRemote(tree, git),
    git.attempt(["config", "user.name"]),
    git.attempt(["config", "user.email"]),
  ]);
  const [parents = "", author = "", timestamp = "", message = ""] = shown.split("\0");
  return {
    sha: head,
    parent: parents.split(" ")[0] || null,
    message: message.trimEnd(),
    author,
    timestamp,
    defaultBranch,
    remote,
    user: { login: env.USER ?? env.USERNAME ?? "", name: name.stdout.trim(), email: email.stdout.trim() },
    files: [...new Set(listed.split("\0").filter((path) => path !== ""))].sort(),
  };
}

/** Lists the files of a directory that is no repository. */
async function filesBelow(dir: string): Promise<string> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .flatMap((entry) =>
      entry.isFile() ? [relative(dir, join(entry.parentPath, entry.name)).replaceAll(sep, "/")] : [],
    )
    .join("\0");
}

async function findDefaultBranch(tree: WorkingTree, git: Git): Promise<string> {
  if (tree.repository === null) return "main";
  const remote = await git.attempt(["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"]);
  if (remote.code === 0) return remote.stdout.trim().replace(/^refs\/remotes\/origin\//, "");
  const configured = (await git.attempt(["config", "init.defaultBranch"])).stdout.trim();
  if (configured !== "" && (await isBranch(configured, git))) return configured;
  return (await isBranch("main", git)) || !(await isBranch("master", git)) ? "main" : "master";
}

async function isBranch(name: string, git: Git): Promise<boolean> {
  return (await git.attempt(["rev-parse", "--verify", "--quiet", `refs/heads/${name}`])).code === 0;
}

async function findRemote(tree: WorkingTree, git: Git): Promise<ProjectFacts["remote"]> {
  if (tree.repository === null) return null;
  const found = await git.attempt(["remote", "get-url", "origin"]);
  const meant = found.code === 0 ? readRemote(found.stdout.trim()) : null;
  if (meant !== null || found.code !== 0) return meant;
  // git can be told to take a mirror in a directory instead of the server.
  return readRemote((await git.attempt(["config", "--get", "remote.origin.url"])).stdout.trim());
}

/** `git@host:group/name.git`, `https://host/group/name`, `ssh://git@host:22/group/name` → host and path. */
export function readRemote(address: string): ProjectFacts["remote"] {
  const match =
    /^(?:https?|ssh|git):\/\/(?:[^@/]*@)?([^/]+)\/(.+)$/.exec(address) ??
    /^(?:[^@/:]+@)?([^/:]{2,}):([^/].*)$/.exec(address);
  const [, host, path] = match ?? [];
  if (host === undefined || path === undefined) return null;
  const clean = path.replace(/\/+$/, "").replace(/\.git$/, "");
  return { host: /^ssh:/.test(address) ? host.replace(/:\d+$/, "") : host, path: clean, address };
}

/** Where git finds another project of the server that a remote leads to: in the same way. */
export function projectAddress(remote: string | null, host: string, project: string): string {
  const scheme = /^(?:https?|ssh|git):\/\/(?:[^@/]*@)?[^/]+\//.exec(remote ?? "")?.[0];
  const short = /^(?:[^@/:]+@)?[^/:]{2,}:(?!\/\/)/.exec(remote ?? "")?.[0];
  return `${scheme ?? short ?? `https://${host}/`}${project}.git`;
}

/**
 * Files that differ from the merge base with `ref`, those that are not committed among them.
 * @returns `null`: there is no such ref
 */
export async function changedSince(ref: string, git: Git): Promise<readonly string[] | null> {
  for (const name of [ref, `origin/${ref}`]) {
    const base = await git.attempt(["merge-base", "--end-of-options", name, "HEAD"]);
    if (base.code !== 0) continue;
    const [changed, untracked] = await Promise.all([
      git(["diff", "--name-only", "--no-renames", "-z", base.stdout.trim()]),
      git(["ls-files", "--others", "--exclude-standard", "-z"]),
    ]);
    return [...new Set(`${changed}\0${untracked}`.split("\0").filter((path) => path !== ""))].sort();
  }
  return null;
}
