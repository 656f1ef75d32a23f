import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createGit } from "./git.ts";
import type { Snapshot } from "./snapshot.ts";

/**
 * Makes in `into` what a repository has once it has fetched all branches and tags of a snapshot, but for its settings: whoever
 * copies it writes their own. All jobs on this machine need the same, and each would take longer to fetch it than to run most scripts.
 * @returns whether it is whole; if not, jobs have to fetch
 */
export async function makeTemplate(
  { repositoryDir, sha, ref, shallow }: Pick<Snapshot, "repositoryDir" | "sha" | "ref" | "shallow">,
  into: string,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<boolean> {
  const pack = join(into, "objects", "pack");
  await mkdir(pack, { recursive: true, mode: 0o700 });
  const git = createGit(repositoryDir, env, signal);
  const packed = await git.attempt(
    ["-c", "core.fsync=none", "pack-objects", "--all", "--delta-base-offset", "--quiet", join(pack, "pack")],
    { env: { GIT_DIR: repositoryDir } },
  );
  if (packed.code !== 0) return false;
  if (shallow) await copyFile(join(repositoryDir, "shallow"), join(into, "shallow"));
  const listed = await readFile(join(repositoryDir, "packed-refs"), "utf8").catch(() => "");
  const refs = new Map(listed.split("\n").flatMap((line) => entryOf(line) ?? []));
  refs.set(ref, sha);
  const lines = [...refs].map(([name, id]) => `${id} ${name.replace(/^refs\/heads\//, "refs/remotes/origin/")}\n`);
  await writeFile(join(into, "packed-refs"), lines.join(""));
  for (const dir of ["heads", "tags"]) await mkdir(join(into, "refs", dir), { recursive: true });
  await writeFile(join(into, "HEAD"), "ref: refs/heads/main\n");
  return true;
}

function entryOf(line: string): [readonly [string, string]] | undefined {
  const [id, name] = line.split(" ");
  return id === undefined || name === undefined ? undefined : [[name, id]];
}
