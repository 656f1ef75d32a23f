import { stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { CommandError } from "../../errors.ts";
import { CI_FILE_NAMES, GITLAB_FILE_NAME } from "../pipeline/ci-file.ts";
import type { Git } from "./git.ts";

/** A person's repository, looked at and never written to. Paths are absolute. */
export interface UserRepository {
  /** Of this working tree; a linked worktree has one of its own. */
  readonly gitDir: string;
  /** Shared by all worktrees: objects, refs. */
  readonly commonDir: string;
  readonly indexFile: string;
  readonly objectFormat: "sha1" | "sha256";
  /** `null`: nothing was committed yet. */
  readonly head: string | null;
  /** `main`, also of a branch without commits; `null`: HEAD is detached. */
  readonly branch: string | null;
  /** Tags that point at a detached HEAD. */
  readonly tags: readonly string[];
}

/** What the jobs work on. */
export interface WorkingTree {
  /** Absolute; its CI file is the one that counts. */
  readonly dir: string;
  /** For directories and variables: `widget`. */
  readonly name: string;
  /** `null`: `dir` is not the top of a repository. */
  readonly repository: UserRepository | null;
  /** What a person may not expect, one sentence each. */
  readonly notes: readonly string[];
}

/**
 * The project of a directory: the directory itself if it has a CI file, else the top of the repository around it.
 * @throws {CommandError} git is missing, or does not want to work here: what it said
 */
export async function findWorkingTree(cwd: string, gitIn: (dir: string) => Git): Promise<WorkingTree> {
  const git = gitIn(cwd);
  const found = await git.attempt(["rev-parse", ...PLACES, "HEAD^{commit}", "--symbolic-full-name", "HEAD"]);
  const [shown = "", ...rest] = found.stdout.split("\n");
  // git names the places before it finds that nothing was committed yet.
  if (found.code !== 0 && rest.length < PLACES.length - 2) {
    // "dubious ownership" and its like are for the person to decide; anything else means: there is no working tree.
    if (/safe\.directory|dubious ownership/.test(found.stderr)) throw new CommandError(found.stderr.trim());
    const why = /must be run in a work tree|cannot use bare repository/.test(found.stderr)
      ? `${cwd} is a repository without a working tree: its files are taken as they are`
      : `${cwd} is no git repository: all its files are taken, and there is no history`;
    return { dir: cwd, name: nameOf(cwd), repository: null, notes: [why] };
  }
  const top = resolve(cwd, shown);
  const own = await hasCiFile(cwd);
  if (own && !(await isSame(top, cwd))) {
    const note = `${cwd} has a CI file of its own: it is taken as a project, without the rest of the repository in ${top} and without history`;
    return { dir: cwd, name: nameOf(cwd), repository: null, notes: [note] };
  }
  const [gitDir = "", commonDir = "", indexFile = "", format = "", ...head] = rest;
  const at = found.code === 0 ? await headOf(head, git) : await unbornHead(git);
  return {
    dir: top,
    name: nameOf(top),
    repository: {
      gitDir: resolve(cwd, gitDir),
      commonDir: resolve(cwd, commonDir),
      indexFile: resolve(cwd, indexFile),
      objectFormat: format === "sha256" ? "sha256" : "sha1",
      ...at,
    },
    notes: [],
  };
}

/** A git that knows one format only gives the last word back. */
const PLACES = ["--show-toplevel", "--git-dir", "--git-common-dir", "--git-path", "index", "--show-object-format"];

type Head = Pick<UserRepository, "head" | "branch" | "tags">;

async function headOf([commit = "", ref = ""]: readonly string[], git: Git): Promise<Head> {
  if (ref !== "HEAD") return { head: commit, branch: ref.replace(/^refs\/heads\//, ""), tags: [] };
  const tags = await git(["for-each-ref", "--points-at=HEAD", "--format=%(refname:lstrip=2)", "refs/tags"]);
  return { head: commit, branch: null, tags: tags.split("\n").filter((tag) => tag !== "") };
}

async function unbornHead(git: Git): Promise<Head> {
  const branch = await git.attempt(["symbolic-ref", "--quiet", "HEAD"]);
  return { head: null, branch: branch.code === 0 ? branch.stdout.replace(/^refs\/heads\//, "") : null, tags: [] };
}

async function hasCiFile(dir: string): Promise<boolean> {
  for (const name of [...CI_FILE_NAMES, GITLAB_FILE_NAME]) {
    const found = await stat(join(dir, name)).catch(() => null);
    if (found !== null) return true;
  }
  return false;
}

async function isSame(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([stat(a, { bigint: true }), stat(b, { bigint: true })]);
  return one.dev === other.dev && one.ino === other.ino;
}

/** Safe in a path and in a URL, never empty. */
function nameOf(dir: string): string {
  const name = basename(dir)
    .replace(/[^\p{L}\p{N}._-]/gu, "_")
    .replace(/^[-.]+|\.(?:git)?$/g, "");
  return name === "" ? "project" : name;
}
