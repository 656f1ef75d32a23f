import { readFile } from "node:fs/promises";
import type { Git } from "../../sources/git.ts";
import { fileInside } from "../../sources/inside.ts";
import type { Found, IncludeSources, SourceTree } from "../compose/include-sources.ts";
import { committedTree, type Projects } from "./projects.ts";
import { templateUrl } from "./remote.ts";
import { isVague, newestTag } from "./versions.ts";

export interface SourcesOptions {
  readonly dir: string;
  /** Sorted. */
  readonly files: readonly string[];
  /** Files as HEAD has them, instead of those in the directory. */
  readonly committed: boolean;
  readonly git: Git;
  /** `group/name` of the project itself. */
  readonly project: string;
  /** The server's name: components of others are refused. */
  readonly host: string;
  /** Checkouts that are at hand, by project. */
  readonly checkouts: ReadonlyMap<string, string>;
  readonly remote: (url: string) => Promise<Found<string>>;
  /** The other projects of the server. */
  readonly projects: Projects;
}

/** Where includes come from on this machine. */
export function localSources(options: SourcesOptions): IncludeSources {
  const { dir, files, committed, git, project, host, checkouts, remote, projects } = options;
  const own: SourceTree = committed
    ? { ...committedTree(git, [], "HEAD", ""), paths: async () => files }
    : { name: "", read: async (path) => await readInside(dir, path), paths: async () => files };
  /** What is not at hand is fetched: another project, or a branch that this repository does not know. */
  const treeOf = async (path: string, ref: string | undefined): Promise<Found<SourceTree & { sha?: string }>> => {
    const checkout = checkouts.get(path.toLowerCase());
    if (checkout !== undefined) return { found: treeIn(checkout, `${path}:`) };
    if (path.toLowerCase() !== project.toLowerCase()) return await projects.tree(path, ref);
    if (ref === undefined) return { found: own };
    for (const name of [`refs/remotes/origin/${ref}`, `refs/heads/${ref}`, `refs/tags/${ref}`, ref]) {
      const found = await git.attempt(["rev-parse", "--verify", "--quiet", "--end-of-options", `${name}^{commit}`]);
      const sha = found.stdout.trim().split("\n").at(-1) ?? "";
      if (found.code !== 0) continue;
      const head = await git.attempt(["rev-parse", "--verify", "--quiet", "HEAD"]);
      // The commit that is checked out, with what was changed since.
      if (head.stdout.trim() === sha) return { found: own };
      return { found: { ...committedTree(git, [], sha, `${ref}:`), sha } };
    }
    return await projects.tree(path, ref);
  };
  return {
    own,
    project: treeOf,
    remote,
    template: async (name) => await remote(templateUrl(name)),
    async component(address) {
      const [, from = "", path = "", name = "", reference = ""] = /^([^/]+)\/(.+)\/([^/@]+)@(.+)$/.exec(address) ?? [];
      if (name === "") return { problem: "is no address of a component: HOST/GROUP/PROJECT/NAME@VERSION is expected" };
      const isHere = checkouts.has(path.toLowerCase()) || path.toLowerCase() === project.toLowerCase();
      if (from !== host && !isHere) return { problem: `is of another server than the project's, which is ${host}` };
      let version = reference;
      if (!isHere && isVague(reference)) {
        const tags = await projects.tags(path);
        if ("problem" in tags) return tags;
        const tag = newestTag(reference, tags.found);
        if (tag === undefined) return { problem: `has no release that is meant by ${reference}` };
        version = tag;
      }
      const found = await treeOf(path, isHere ? undefined : version);
      if ("problem" in found) return found;
      const tree = found.found;
      for (const file of [`templates/${name}.yml`, `templates/${name}/template.yml`]) {
        const text = await tree.read(file);
        const values = new Map(Object.entries({ name, version, reference, sha: tree.sha ?? version }));
        if (text !== undefined) return { found: { tree, path: file, text, values } };
      }
      return { problem: `has no file templates/${name}.yml and no templates/${name}/template.yml` };
    },
  };
}

function treeIn(dir: string, name: string): SourceTree {
  return {
    name,
    read: async (path) => await readInside(dir, path),
    paths: async () => [],
  };
}

async function readInside(dir: string, path: string): Promise<string | undefined> {
  const file = fileInside(dir, path);
  return file === undefined ? undefined : await readFile(file, "utf8").catch(() => undefined);
}
