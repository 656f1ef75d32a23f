import { execFileSync } from "node:child_process";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A repository with one commit on `main`, whose file `README` says `hello`. */
export interface Upstream {
  readonly dir: string;
  readonly sha: string;
}

/** @param owner whose it is: git refuses a repository of another user, and jobs need not run as root */
export async function createUpstream(owner = 0): Promise<Upstream> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-upstream-"));
  const git = (...args: string[]): string =>
    execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@example.com", ...args], {
      cwd: dir,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    }).trim();
  git("init", "-q", "-b", "main");
  await writeFile(join(dir, "README"), "hello\n");
  git("add", ".");
  git("commit", "-q", "-m", "first");
  const sha = git("rev-parse", "HEAD");
  if (owner !== 0) execFileSync("chown", ["-R", `${owner}:${owner}`, dir]);
  execFileSync("chmod", ["-R", "go+rX", dir]);
  return { dir, sha };
}
