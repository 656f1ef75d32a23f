import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Git } from "./git.ts";
import type { WorkingTree } from "./working-tree.ts";

/**
 * Submodules whose address is relative (`../lib.git`) are looked for beside the repository that the job fetches: those that
 * were fetched here are served from there, so that no network is needed. Others are fetched as a coordinator's job does.
 * @param servedAs path of the repository at the server
 */
export async function servedSubmodules(
  { dir }: WorkingTree,
  commonDir: string,
  servedAs: string,
  git: Git,
  notes: string[],
): Promise<{ path: string; dir: string }[]> {
  const file = join(dir, ".gitmodules");
  if ((await stat(file).catch(() => null)) === null) return [];
  const listed = await git.attempt(["config", "--file", file, "-z", "--get-regexp", "^submodule\\..*\\.url$"]);
  if (listed.code !== 0) return [];
  const served: { path: string; dir: string }[] = [];
  let changed = false;
  for (const entry of listed.stdout.split("\0")) {
    const [, name, url] = /^submodule\.(.*)\.url\n(.*)$/s.exec(entry) ?? [];
    if (name === undefined || url === undefined) continue;
    changed = true;
    const repository = join(commonDir, "modules", name);
    const isHere =
      !name.split("/").includes("..") && (await stat(join(repository, "objects")).catch(() => null)) !== null;
    if (!/^\.\.?\//.test(url) || !isHere) continue;
    const path = decodeURIComponent(new URL(encodeURI(url), `http://here/${servedAs}/`).pathname).slice(1);
    served.push({ path, dir: repository });
  }
  if (changed)
    notes.push("Submodules are taken at the commit that is checked out; changes inside of them are not included");
  return served;
}
