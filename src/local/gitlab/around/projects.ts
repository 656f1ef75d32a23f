import { createHash } from "node:crypto";
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { CommandError } from "../../../errors.ts";
import { never } from "../../../time.ts";
import type { Git } from "../../sources/git.ts";
import type { Found, SourceTree } from "../compose/include-sources.ts";

export interface ProjectsOptions {
  /** git of the person, with the person's own credentials; it ends with the signal. */
  readonly git: (signal: AbortSignal) => Git;
  /** Where git finds a project. */
  readonly addressOf: (project: string) => string;
  /** Stands before the projects in the cache: the server's name. */
  readonly host: string;
  /** Commits that were fetched stay here. */
  readonly cacheDir: string;
  readonly offline: boolean;
  /** Fetch also commits that are here already. */
  readonly fresh: boolean;
  /** Limit for all projects of one run together, as GitLab has it. */
  readonly timeoutMs: number;
}

/** Other projects of the server, each asked once a run for what its branches and tags are. */
export interface Projects {
  /** @param ref branch, tag or commit; `undefined`: the project's default branch */
  tree(project: string, ref: string | undefined): Promise<Found<CommitTree>>;
  /** Names of the project's tags. */
  tags(project: string): Promise<Found<readonly string[]>>;
}

/** Files of a project at one commit. */
export interface CommitTree extends SourceTree {
  readonly sha: string;
}

const refsSchema = z.record(z.string(), z.string());
const SHA = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
/** What GitLab takes for the path of a project; nothing that git would take for an option or another server. */
const PROJECT = /^[A-Za-z0-9_][\w.-]*(?:\/[A-Za-z0-9_][\w.-]*)+$/;

export function createProjects(options: ProjectsOptions): Projects {
  const { addressOf, host, cacheDir, offline, fresh, timeoutMs } = options;
  const listings = new Map<string, Promise<Found<ReadonlyMap<string, string>>>>();
  // The limit begins with the first project.
  let limit: AbortSignal | undefined;
  const limited = async <T>(body: (git: Git) => Promise<Found<T>>): Promise<Found<T>> => {
    limit ??= AbortSignal.timeout(timeoutMs);
    try {
      return await body(options.git(limit));
    } catch (error) {
      if (limit.aborted) return { problem: `cannot be fetched: there was no answer within ${timeoutMs / 1000} s` };
      if (error instanceof CommandError) return { problem: `cannot be fetched: ${error.message}` };
      throw error;
    }
  };
  const dirOf = (project: string): string =>
    join(cacheDir, createHash("sha256").update(`${host}/${project}`).digest("hex").slice(0, 32));

  /** Full names of branches and tags, `HEAD` among them, and their commits. */
  const listed = async (project: string): Promise<Found<ReadonlyMap<string, string>>> => {
    const kept = join(dirOf(project), "refs.json");
    if (offline) {
      const text = await readFile(kept, "utf8").catch(() => undefined);
      return text === undefined ? NOT_FETCHED : keptRefs(text, kept);
    }
    return await limited(async (git) => {
      const { code, stdout, stderr } = await git.attempt(["ls-remote", "--quiet", "--", addressOf(project)]);
      if (code !== 0) return { problem: refusal(stderr) };
      const refs = new Map<string, string>();
      for (const line of stdout.split("\n")) {
        const [sha, name] = line.split("\t");
        // The last line of an annotated tag, with `^{}`, has the commit.
        if (sha !== undefined && name !== undefined) refs.set(name.replace(/\^\{\}$/, ""), sha);
      }
      await mkdir(dirOf(project), { recursive: true, mode: 0o700 });
      const beside = `${kept}.${process.pid}`;
      await writeFile(beside, JSON.stringify(Object.fromEntries(refs)), { mode: 0o600 });
      await rename(beside, kept);
      return { found: refs };
    });
  };
  const refsOf = async (project: string): Promise<Found<ReadonlyMap<string, string>>> => {
    const known = listings.get(project) ?? listed(project);
    listings.set(project, known);
    return await known;
  };

  const commitOf = async (project: string, ref: string | undefined): Promise<Found<string>> => {
    if (ref !== undefined && SHA.test(ref)) return { found: ref };
    const refs = await refsOf(project);
    if ("problem" in refs) return refs;
    const names = ref === undefined ? ["HEAD"] : [`refs/heads/${ref}`, `refs/tags/${ref}`, ref];
    const sha = names.flatMap((name) => refs.found.get(name) ?? [])[0];
    return sha === undefined ? { problem: `has no branch, tag or commit "${ref ?? "HEAD"}"` } : { found: sha };
  };

  const trees = new Map<string, Promise<Found<CommitTree>>>();
  const fetched = async (project: string, sha: string): Promise<Found<CommitTree>> => {
    const dir = join(dirOf(project), sha);
    const isHere = await access(dir).then(
      () => true,
      () => false,
    );
    if (!isHere && offline) return NOT_FETCHED;
    if (isHere && !(fresh && !offline)) return { found: treeOf(options.git(never), dir, project, sha) };
    return await limited(async (git) => {
      await mkdir(dirOf(project), { recursive: true, mode: 0o700 });
      const made = await mkdtemp(join(dirOf(project), "new-"));
      try {
        await git(["init", "--quiet", "--bare", made]);
        const own = ["--git-dir", made];
        const { code, stderr } = await git.attempt([
          ...[...own, "fetch", "--quiet", "--no-tags", "--depth=1"],
          ...["--", addressOf(project), sha],
        ]);
        if (code !== 0) return { problem: refusal(stderr) };
        await rm(dir, { recursive: true, force: true });
        await rename(made, dir);
      } finally {
        await rm(made, { recursive: true, force: true });
      }
      return { found: treeOf(options.git(never), dir, project, sha) };
    });
  };

  return {
    async tree(project, ref) {
      if (!PROJECT.test(project)) return { problem: "is no path of a project: GROUP/NAME is expected" };
      const commit = await commitOf(project, ref);
      if ("problem" in commit) return commit;
      const key = `${project} ${commit.found}`;
      const tree = trees.get(key) ?? fetched(project, commit.found);
      trees.set(key, tree);
      return await tree;
    },
    async tags(project) {
      if (!PROJECT.test(project)) return { problem: "is no path of a project: GROUP/NAME is expected" };
      const refs = await refsOf(project);
      if ("problem" in refs) return refs;
      return { found: [...refs.found.keys()].flatMap((name) => /^refs\/tags\/(.+)$/.exec(name)?.[1] ?? []) };
    },
  };
}

const NOT_FETCHED = {
  problem: "was not fetched before, and --offline says not to fetch it: run once without",
} as const;

function keptRefs(text: string, file: string): Found<ReadonlyMap<string, string>> {
  const broken = { problem: `cannot be taken from ${file}, which is damaged: run once without --offline` };
  try {
    const refs = refsSchema.safeParse(JSON.parse(text));
    return refs.success ? { found: new Map(Object.entries(refs.data)) } : broken;
  } catch {
    return broken;
  }
}

/** GitLab says the same of a project that is private and of one that is not there. */
function refusal(stderr: string): string {
  const lines = stderr.split("\n").map((line) => line.trim());
  const said = lines.find((line) => /^(?:fatal|error):/.test(line)) ?? lines.find((line) => line !== "") ?? "";
  return `is not there, or git may not read it${said === "" ? "" : `: ${withoutPasswords(said)}`}`;
}

function withoutPasswords(text: string): string {
  return text.replace(/(:\/\/)[^/@\s]+@/g, "$1");
}

function treeOf(git: Git, dir: string, project: string, sha: string): CommitTree {
  return { ...committedTree(git, ["--git-dir", dir], sha, `${project}:`), sha };
}

/** Files as a commit has them. @param own words that tell git which repository */
export function committedTree(git: Git, own: readonly string[], commit: string, name: string): SourceTree {
  return {
    name,
    async read(path) {
      const found = await git.attempt([...own, "show", "--end-of-options", `${commit}:${path}`]);
      return found.code === 0 ? found.stdout : undefined;
    },
    async paths() {
      const found = await git.attempt([...own, "ls-tree", "-r", "--name-only", "-z", "--end-of-options", commit]);
      return found.code === 0 ? found.stdout.split("\0").filter((path) => path !== "") : [];
    },
  };
}
