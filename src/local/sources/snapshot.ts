import { copyFile, lstat, mkdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CommandError } from "../../errors.ts";
import type { VariableSpec } from "../coordinator/jobs/job.ts";
import { createGit, type Git } from "./git.ts";
import { keepBytes } from "./snapshot-bytes.ts";
import { servedSubmodules } from "./snapshot-submodules.ts";
import type { UserRepository, WorkingTree } from "./working-tree.ts";

/** A state of a working tree as a commit that jobs can fetch. */
export interface Snapshot {
  /** A bare repository made for it; shares the objects of the person's own. */
  readonly repositoryDir: string;
  readonly sha: string;
  /** The commit that HEAD was, or zeros. */
  readonly beforeSha: string;
  /** Full: `refs/heads/main`, `refs/tags/v1`. */
  readonly ref: string;
  /** Of the commit that HEAD is. */
  readonly message: string;
  readonly author: string;
  /** Some files are kept by git-lfs: the commit has pointers to them. */
  readonly lfs: boolean;
  /** The repository has the end of its history only: a fetch needs `--update-shallow`. */
  readonly shallow: boolean;
  /** Repositories of submodules with relative addresses: where they are expected beside this one, and where they are. */
  readonly submodules: readonly { readonly path: string; readonly dir: string }[];
  /** What a person should know about what is in it and what is not, one sentence each. */
  readonly notes: readonly string[];
}

export interface SnapshotOptions {
  readonly tree: WorkingTree;
  /** An empty directory of ours for the bare repository. */
  readonly into: string;
  /** Only what HEAD has. */
  readonly committed: boolean;
  /** The ref that jobs run for; by default that of the working tree. */
  readonly ref: string | undefined;
  /** `local/widget.git`: the repository's own place at the server, which relative addresses of submodules begin at. */
  readonly servedAs: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const NO_COMMIT = "0".repeat(40);
/** Untracked files beyond it are named before they are copied. */
const LARGE_BYTES = 50 * 1024 * 1024;

/** Nothing of a person's settings may run a program, write into the repository or change what a file holds. */
const QUIET = Object.entries({
  "core.hooksPath": "/dev/null",
  "core.fsmonitor": "false",
  "core.splitIndex": "false",
  "core.untrackedCache": "false",
  "core.safecrlf": "false",
  "gc.auto": "0",
  "advice.addEmbeddedRepo": "false",
  "advice.addIgnoredFile": "false",
  "commit.gpgSign": "false",
  // Its clean filter would put large files into the person's repository.
  "filter.lfs.clean": "",
  "filter.lfs.process": "",
  "filter.lfs.required": "false",
}).flatMap(([key, value]) => ["-c", `${key}=${value}`]);

/**
 * Take what is in the working tree (or in HEAD) as one commit. The person's working tree, index, refs and objects are only
 * read: new objects, and an index for the occasion, are in `into`. (git renews the time of an object that would have been
 * written again, so that it is not tidied up.) Files that git ignores stay out.
 * @throws {CommandError} there is no commit where one is asked for, or git refused: what it said
 */
export async function takeSnapshot(options: SnapshotOptions, signal: AbortSignal): Promise<Snapshot> {
  const { tree, into, committed, env } = options;
  const { repository } = tree;
  if (committed && (repository === null || repository.head === null)) {
    const why = repository === null ? "is not the top of a git repository" : "has no commit yet";
    throw new CommandError(`--committed: ${tree.dir} ${why}. Leave --committed out to run what is there`);
  }
  const notes: string[] = [];
  const ref = refOf(tree, options.ref, notes);
  const own = createGit(into, env, signal);
  const head = ref.startsWith("refs/heads/") ? ref : "refs/heads/main";
  await makeRepository(into, head, repository?.objectFormat ?? "sha1");
  const shallow = repository !== null && (await shareObjects(repository, into));

  const git = createGit(tree.dir, env, signal);
  const commit = repository?.head ?? null;
  const beside: string[] = [];
  const [made, shown, submodules] = await Promise.all([
    committed && commit !== null
      ? { sha: commit, hasAttributes: true }
      : commitTree({ options, git, head: commit, notes }),
    commit === null ? "" : git(["log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%B%x00%ae", commit]),
    repository === null ? [] : servedSubmodules(tree, repository.commonDir, options.servedAs, git, beside),
    repository === null ? undefined : copyRefs(git, into),
  ]);
  notes.push(...beside);
  const { sha } = made;
  await mkdir(dirname(join(into, ref)), { recursive: true });
  await writeFile(join(into, ref), `${sha}\n`);
  const attributes = ["--", ".gitattributes", "*/.gitattributes"];
  const lfs =
    made.hasAttributes &&
    (
      await own.attempt(["-c", "grep.threads=1", "grep", "--quiet", "filter=lfs", sha, ...attributes], {
        env: { GIT_DIR: into },
      })
    ).code === 0;
  if (lfs) notes.push("Files that git-lfs keeps are pointers in the jobs, except those that were changed here");
  const [message = "", author = ""] = shown.split("\0");
  return {
    repositoryDir: into,
    sha,
    beforeSha: commit === null || commit === sha ? NO_COMMIT : commit,
    ref,
    message: message.trim(),
    author: author.trim(),
    lfs,
    shallow,
    submodules,
    notes,
  };
}

/**
 * What jobs run for, as a full ref: what is asked for, else the branch, else a tag, else `main`.
 * @throws {CommandError} what is asked for is no branch and no tag
 */
export function refOf(tree: WorkingTree, ref: string | undefined, notes: string[]): string {
  if (ref !== undefined) {
    const full = ref.startsWith("refs/") ? ref : `refs/heads/${ref}`;
    if (!/^refs\/(?:heads|tags)\/[^\s~^:?*[\\\x00-\x1f\x7f]+$/.test(full) || /\.\.|@\{|\/\/|\/$|\.lock$/.test(full))
      throw new CommandError(`--ref is a branch such as main, or a tag such as refs/tags/v1, not "${ref}"`);
    return full;
  }
  const { repository } = tree;
  if (repository === null) return "refs/heads/main";
  if (repository.branch !== null) return `refs/heads/${repository.branch}`;
  const [tag] = repository.tags;
  if (tag !== undefined) {
    notes.push(`HEAD is detached at the tag "${tag}": jobs run as for refs/tags/${tag}; --ref names another ref`);
    return `refs/tags/${tag}`;
  }
  notes.push('HEAD is detached: jobs run as for the branch "main"; --ref names another');
  return "refs/heads/main";
}

/** What `git init --bare` makes, without a process and without templates. */
async function makeRepository(into: string, head: string, objectFormat: "sha1" | "sha256"): Promise<void> {
  for (const dir of ["objects/info", "refs/heads", "refs/tags"]) await mkdir(join(into, dir), { recursive: true });
  const sha256 = objectFormat === "sha256";
  const core = `[core]\n\trepositoryformatversion = ${sha256 ? 1 : 0}\n\tfilemode = true\n\tbare = true\n`;
  await writeFile(join(into, "config"), sha256 ? `${core}[extensions]\n\tobjectformat = sha256\n` : core);
  await writeFile(join(into, "HEAD"), `ref: ${head}\n`);
}

/** @returns whether the history is not all there */
async function shareObjects({ commonDir }: UserRepository, into: string): Promise<boolean> {
  await writeFile(join(into, "objects", "info", "alternates"), `${join(commonDir, "objects")}\n`);
  const shallow = await readFile(join(commonDir, "shallow")).catch(() => null);
  if (shallow === null) return false;
  await writeFile(join(into, "shallow"), shallow);
  return true;
}

/** What jobs can compare with: branches and tags, and branches known of the remote, as a coordinator's server has them. */
async function copyRefs(git: Git, into: string): Promise<void> {
  const listed = await git([
    "for-each-ref",
    "--format=%(objectname) %(refname)",
    "refs/heads",
    "refs/tags",
    "refs/remotes/origin",
  ]);
  const refs = new Map<string, string>();
  for (const line of listed.split("\n")) {
    const [sha, name] = line.split(" ");
    if (sha === undefined || name === undefined || name === "refs/remotes/origin/HEAD") continue;
    const remote = /^refs\/remotes\/origin\/(.+)$/.exec(name)?.[1];
    if (remote === undefined) refs.set(name, sha);
    else if (!refs.has(`refs/heads/${remote}`)) refs.set(`refs/heads/${remote}`, sha);
  }
  const lines = [...refs].map(([name, sha]) => `${sha} ${name}\n`);
  if (lines.length > 0) await writeFile(join(into, "packed-refs"), lines.join(""));
}

/** @returns HEAD itself where nothing differs; and whether there are files that say how git treats others */
async function commitTree({
  options: { tree, into },
  git,
  head,
  notes,
}: {
  options: SnapshotOptions;
  git: Git;
  head: string | null;
  notes: string[];
}): Promise<{ readonly sha: string; readonly hasAttributes: boolean }> {
  const index = join(into, "index");
  if (tree.repository !== null) await copyIndex(tree.repository.indexFile, index);
  const who = { NAME: "alloy-runner exec", EMAIL: "exec@localhost" };
  const env = {
    GIT_DIR: tree.repository?.gitDir ?? into,
    GIT_WORK_TREE: tree.dir,
    GIT_INDEX_FILE: index,
    GIT_OBJECT_DIRECTORY: join(into, "objects"),
    ...Object.fromEntries(
      ["AUTHOR", "COMMITTER"].flatMap((role) =>
        Object.entries(who).map(([what, text]) => [`GIT_${role}_${what}`, text]),
      ),
    ),
  };
  const quiet = [...QUIET, ...(tree.repository === null ? ["-c", "core.bare=false"] : [])];
  await warnAboutLargeFiles(tree.dir, await git([...quiet, ...UNTRACKED], { env }), notes);
  const added = await git.attempt([...quiet, "add", "--all", "--ignore-errors", "--", "."], { env });
  if (added.code !== 0) {
    const said = added.stderr
      .trim()
      .split("\n")
      .filter((line) => !line.startsWith("hint:"));
    notes.push(`Some files are left out, as git could not take them: ${said.slice(0, 5).join("; ")}`);
  }
  const { hasAttributes } = await keepBytes(tree.dir, git, quiet, { env });
  const [root, before] = await Promise.all([
    git([...quiet, "write-tree"], { env }),
    head === null ? "" : git(["rev-parse", `${head}^{tree}`]),
  ]);
  if (head !== null && before === root) return { sha: head, hasAttributes };
  const parent = head === null ? [] : ["-p", head];
  const sha = await git([...quiet, "commit-tree", ...parent, "-m", "What is in the working tree", root], { env });
  return { sha, hasAttributes };
}

const UNTRACKED = ["ls-files", "--others", "--exclude-standard", "-z"];

/**
 * The times in it tell git which files need not be read. Its own time is made older: then files that were changed in the
 * moment of its writing are compared by content.
 */
async function copyIndex(from: string, to: string): Promise<void> {
  const found = await stat(from).catch(() => null);
  if (found === null) return;
  await copyFile(from, to);
  const seconds = Math.floor(found.mtimeMs / 1000);
  await utimes(to, seconds, seconds);
}

async function warnAboutLargeFiles(dir: string, listed: string, notes: string[]): Promise<void> {
  const names = listed.split("\0").filter((name) => name !== "");
  const large: { name: string; bytes: number }[] = [];
  for (let from = 0; from < names.length; from += 256) {
    const found = await Promise.all(
      names.slice(from, from + 256).map(async (name) => ({
        name,
        bytes: await lstat(join(dir, name)).then(
          (file) => (file.isFile() ? file.size : 0),
          () => 0,
        ),
      })),
    );
    large.push(...found.filter(({ bytes }) => bytes > LARGE_BYTES));
  }
  if (large.length === 0) return;
  large.sort((a, b) => b.bytes - a.bytes);
  const shown = large.slice(0, 5).map(({ name, bytes }) => `${name} (${Math.round(bytes / 1024 / 1024)} MiB)`);
  const more = large.length > shown.length ? ` and ${large.length - shown.length} more` : "";
  notes.push(
    `Large untracked files are part of the sources: ${shown.join(", ")}${more}. List them in .gitignore to leave them out`,
  );
}

/** What a runner is to be told of how to fetch a snapshot. */
export function fetchVariables({ lfs, shallow }: Pick<Snapshot, "lfs" | "shallow">): VariableSpec[] {
  return [
    // git takes from a shallow repository only what needs no new ends of history, unless it is told.
    ...(shallow ? [{ key: "GIT_FETCH_EXTRA_FLAGS", value: "--prune --quiet --update-shallow" }] : []),
    // There is nobody here to fetch large files from.
    ...(lfs ? [{ key: "GIT_LFS_SKIP_SMUDGE", value: "1" }] : []),
  ];
}
