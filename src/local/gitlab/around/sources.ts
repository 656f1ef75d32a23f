import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Git } from "../../sources/git.ts";
import type { Found, IncludeSources, SourceTree } from "../compose/include.ts";
import { templateUrl } from "./remote.ts";

export interface SourcesOptions {
  readonly dir: string;
  /** Sorted. */
  readonly files: readonly string[];
  /** Files as HEAD has them, instead of those in the directory. */
  readonly committed: boolean;
  readonly git: Git;
  /** `group/name` of the project itself. */
  readonly project: string;
  /** Checkouts that are at hand, by project. */
  readonly checkouts: ReadonlyMap<string, string>;
  readonly remote: (url: string) => Promise<Found<string>>;
}

/** Where includes come from on this machine. */
export function localSources(options: SourcesOptions): IncludeSources {
  const { dir, files, committed, git, project, checkouts, remote } = options;
  const own: SourceTree = {
    name: "",
    async read(path) {
      if (path.split("/").includes("..")) return undefined;
      if (!committed) return await readFile(join(dir, path), "utf8").catch(() => undefined);
      const found = await git.attempt(["show", `HEAD:${path}`]);
      return found.code === 0 ? found.stdout : undefined;
    },
    paths: async () => files,
  };
  const notHere = <T>(what: string): Promise<Found<T>> => Promise.resolve({ problem: `is not at hand: ${what}` });
  return {
    own,
    async project(path) {
      const checkout = checkouts.get(path);
      if (checkout !== undefined) return { found: treeIn(checkout, `${path}:`) };
      if (path === project.toLowerCase()) return { found: own };
      return await notHere("name a checkout of it with --include PROJECT=DIR");
    },
    remote,
    template: async (name) => await remote(templateUrl(name)),
    async component(address) {
      const [, path = "", name = "", version = ""] = /^[^/]+\/(.+)\/([^/@]+)@(.+)$/.exec(address) ?? [];
      const checkout = checkouts.get(path.toLowerCase());
      const tree = checkout !== undefined ? treeIn(checkout, `${path}:`) : path === project ? own : undefined;
      if (tree === undefined) return await notHere("name a checkout of its project with --include PROJECT=DIR");
      for (const file of [`templates/${name}.yml`, `templates/${name}/template.yml`]) {
        const text = await tree.read(file);
        const values = new Map(Object.entries({ name, version, reference: version, sha: version }));
        if (text !== undefined) return { found: { tree, path: file, text, values } };
      }
      return { problem: `has no file templates/${name}.yml and no templates/${name}/template.yml` };
    },
  };
}

function treeIn(dir: string, name: string): SourceTree {
  return {
    name,
    read: async (path) =>
      path.split("/").includes("..") ? undefined : await readFile(join(dir, path), "utf8").catch(() => undefined),
    paths: async () => [],
  };
}
