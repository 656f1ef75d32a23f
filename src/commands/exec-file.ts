import { relative } from "node:path";
import { CommandError } from "../errors.ts";
import { CI_FILE_NAMES, type CiFile, loadCiFile, parseCiFile } from "../local/ci-file.ts";
import type { Git } from "../local/git.ts";
import type { WorkingTree } from "../local/working-tree.ts";
import type { ExecOptions } from "./exec-options.ts";

/**
 * `exec shell JOB` was the Go runner's way to say `exec --executor shell JOB`.
 * @param executors names of those that there are here or were there
 */
export function understand(
  given: ExecOptions,
  file: CiFile,
  executors: readonly string[],
): { options: ExecOptions; executor: string | undefined } {
  const [first = "", ...rest] = given.jobs;
  if (!executors.includes(first) || file.jobs.some((job) => job.name === first))
    return { options: given, executor: undefined };
  return { options: { ...given, jobs: rest }, executor: first };
}

/**
 * The CI file of the tree; with `committed`, as HEAD has it. Messages name it as seen from `cwd`.
 * @throws {ConfigError} there is none, or it cannot be used
 * @throws {CommandError} there is none in HEAD
 */
export async function readCiFile(
  tree: WorkingTree,
  committed: boolean,
  cwd: string,
  gitIn: (dir: string) => Git,
): Promise<CiFile> {
  if (!committed || tree.repository === null || tree.repository.head === null)
    return await loadCiFile(tree.dir, relative(cwd, tree.dir));
  const git = gitIn(tree.dir);
  for (const name of CI_FILE_NAMES) {
    const found = await git.attempt(["show", `HEAD:${name}`]);
    if (found.code === 0) return parseCiFile(found.stdout, `HEAD:${name}`);
  }
  throw new CommandError(`No CI file in HEAD of ${tree.dir}: expected ${CI_FILE_NAMES.join(" or ")}`);
}
