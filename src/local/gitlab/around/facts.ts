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
  readonly untracked: readonly string[];
}

/** @param git in the project's directory */
export async function gatherFacts(
  tree: WorkingTree,
  git: Git,
  env: Readonly<Record<string, string | undefined>>,
): Promise<ProjectFacts> {
  const head = tree.repository?.head ?? null;
  const [listed, shown, settings, branches] = await Promise.all([
    tree.repository === null
      ? filesBelow(tree.dir)
      : git(["ls-files", "-t", "--cached", "--others", "--exclude-standard", "-z"]),
    head === null
      ? ""
      : git(["log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%P%x00%an <%ae>%x00%cI%x00%B", head]),
    readSettings(git),
    tree.repository === null ? "" : git(["for-each-ref", "--format=%(refname) %(symref)", ORIGIN_HEAD, "refs/heads"]),
  ]);
  const [parents = "", author = "", timestamp = "", message = ""] = shown.split("\0");
  // A status stands before each path, `?` for one that is not tracked.
  const files = listed.split("\0").filter((entry) => entry !== "");
  return {
    sha: head,
    parent: parents.split(" ")[0] || null,
    message: message.trimEnd(),
    author,
    timestamp,
    defaultBranch: defaultBranchOf(branches, settings.get("init.defaultbranch")),
    remote: tree.repository === null ? null : await findRemote(settings, git),
    user: {
      login: env.USER ?? env.USERNAME ?? "",
      name: settings.get("user.name") ?? "",
      email: settings.get("user.email") ?? "",
    },
    files: [...new Set(files.map((entry) => entry.slice(2)))].sort(),
    untracked: files.flatMap((entry) => (entry.startsWith("? ") ? [entry.slice(2)] : [])),
  };
}

const ORIGIN_HEAD = "refs/remotes/origin/HEAD";
const SETTINGS = "^(user\\.(name|email)|init\\.defaultbranch|remote\\.origin\\.url|url\\..*\\.insteadof)$";

/** What git is told of the person and the project: of each setting the value that counts. */
async function readSettings(git: Git): Promise<ReadonlyMap<string, string>> {
  const listed = (await git.attempt(["config", "-z", "--get-regexp", SETTINGS])).stdout;
  const found = new Map<string, string>();
  for (const entry of listed.split("\0")) {
    const [, name, value] = /^([^\n]+)\n(.*)$/s.exec(entry) ?? [];
    if (name === undefined || value === undefined) continue;
    // The first address of a remote counts; of other settings the last.
    if (name !== "remote.origin.url" || !found.has(name)) found.set(name, value.trim());
  }
  return found;
}

/** Lists the files of a directory that is no repository, as git would: none of them is tracked. */
async function filesBelow(dir: string): Promise<string> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .flatMap((entry) =>
      entry.isFile() ? [`? ${relative(dir, join(entry.parentPath, entry.name)).replaceAll(sep, "/")}`] : [],
    )
    .join("\0");
}

/** @param listed branches, and where the remote's HEAD points */
function defaultBranchOf(listed: string, configured: string | undefined): string {
  const refs = new Map(listed.split("\n").map((line) => [line.split(" ")[0] ?? "", line.split(" ")[1] ?? ""] as const));
  const remote = refs.get(ORIGIN_HEAD) ?? "";
  if (remote !== "") return remote.replace(/^refs\/remotes\/origin\//, "");
  const isBranch = (name: string): boolean => refs.has(`refs/heads/${name}`);
  if (configured !== undefined && isBranch(configured)) return configured;
  return isBranch("main") || !isBranch("master") ? "main" : "master";
}

async function findRemote(settings: ReadonlyMap<string, string>, git: Git): Promise<ProjectFacts["remote"]> {
  const configured = settings.get("remote.origin.url");
  if (configured === undefined) return null;
  if (![...settings.keys()].some((name) => name.startsWith("url."))) return readRemote(configured);
  const found = await git.attempt(["remote", "get-url", "origin"]);
  // git can be told to take a mirror in a directory instead of the server.
  return (found.code === 0 ? readRemote(found.stdout.trim()) : null) ?? readRemote(configured);
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
export async function changedSince(
  ref: string,
  { untracked }: Pick<ProjectFacts, "untracked">,
  git: Git,
): Promise<readonly string[] | null> {
  for (const name of [ref, `origin/${ref}`]) {
    const base = await git.attempt(["merge-base", "--end-of-options", name, "HEAD"]);
    if (base.code === 0) return await differing(base.stdout.trim(), untracked, git);
  }
  return null;
}

/** The same since the commit before; `null`: there is none. */
export async function changedSinceParent(
  { parent, untracked }: Pick<ProjectFacts, "parent" | "untracked">,
  git: Git,
): Promise<readonly string[] | null> {
  return parent === null ? null : await differing(parent, untracked, git);
}

async function differing(commit: string, untracked: readonly string[], git: Git): Promise<readonly string[]> {
  const changed = await git(["diff", "--name-only", "--no-renames", "-z", commit]);
  return [...new Set([...changed.split("\0"), ...untracked].filter((path) => path !== ""))].sort();
}
