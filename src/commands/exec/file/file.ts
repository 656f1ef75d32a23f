import { readFile } from "node:fs/promises";
import { join, relative, resolve, sep } from "node:path";
import { CommandError, ConfigError } from "../../../errors.ts";
import { CI_FILE_NAMES, type CiFile, GITLAB_FILE_NAME, parseCiFile } from "../../../local/pipeline/ci-file.ts";
import type { Git } from "../../../local/sources/git.ts";
import type { WorkingTree } from "../../../local/sources/working-tree.ts";
import type { ExecOptions } from "../options.ts";
import type { GitlabFile } from "./gitlab.ts";

/**
 * `exec shell JOB` was the Go runner's way to say `exec --executor shell JOB`.
 * @param executors names of those that there are here or were there
 */
export function understand(
  given: ExecOptions,
  jobs: readonly string[],
  executors: readonly string[],
): { options: ExecOptions; executor: string | undefined } {
  const [first = "", ...rest] = given.jobs;
  if (!executors.includes(first) || jobs.includes(first)) return { options: given, executor: undefined };
  return { options: { ...given, jobs: rest }, executor: first };
}

/** The project's CI file: AlloyCI's, or the text of GitLab's. */
export type ProjectFile =
  | { readonly kind: "alloy"; readonly file: CiFile; readonly notes: readonly string[] }
  | { readonly kind: "gitlab"; readonly file: GitlabFile };

/**
 * The CI file of the tree; with `committed`, as HEAD has it. Messages name it as seen from `cwd`. Where both are there,
 * AlloyCI's is taken.
 * @throws {ConfigError} it cannot be used
 * @throws {CommandError} there is none
 */
export async function readProjectFile(
  tree: WorkingTree,
  { committed, file }: Pick<ExecOptions, "committed" | "file">,
  cwd: string,
  gitIn: (dir: string) => Git,
): Promise<ProjectFile> {
  const fromHead = committed && tree.repository !== null && tree.repository.head !== null;
  const git = gitIn(tree.dir);
  const read = async (path: string): Promise<string | undefined> => {
    if (!fromHead) return await readIfThere(join(tree.dir, path));
    const found = await git.attempt(["show", `HEAD:${path}`]);
    return found.code === 0 ? found.stdout : undefined;
  };
  const shown = (path: string): string => (fromHead ? `HEAD:${path}` : join(relative(cwd, tree.dir), path));
  if (file !== undefined) {
    const absolute = resolve(cwd, file);
    const path = relative(tree.dir, absolute).replaceAll(sep, "/");
    const text = path.startsWith("../") ? await readIfThere(absolute) : await read(path);
    if (text === undefined) throw new CommandError(`--file ${file} is not there`);
    return /(?:^|\/)\.?alloy-ci[^/]*$|\.json$/.test(file)
      ? { kind: "alloy", file: parseCiFile(text, file), notes: [] }
      : { kind: "gitlab", file: { text, name: file, path } };
  }
  const gitlab = await read(GITLAB_FILE_NAME);
  for (const path of CI_FILE_NAMES) {
    const text = await read(path);
    if (text === undefined) continue;
    const both = `${path} is taken, and not ${GITLAB_FILE_NAME}: --file ${GITLAB_FILE_NAME} takes that`;
    return { kind: "alloy", file: parseCiFile(text, shown(path)), notes: gitlab === undefined ? [] : [both] };
  }
  if (gitlab !== undefined)
    return { kind: "gitlab", file: { text: gitlab, name: shown(GITLAB_FILE_NAME), path: GITLAB_FILE_NAME } };
  const where = fromHead ? `HEAD of ${tree.dir}` : tree.dir;
  throw new CommandError(`No CI file in ${where}: expected ${[...CI_FILE_NAMES, GITLAB_FILE_NAME].join(", ")}`);
}

async function readIfThere(path: string): Promise<string | undefined> {
  return await readFile(path, "utf8").catch((cause: unknown) => {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw new ConfigError(`Cannot read ${path}`, { file: path, cause });
  });
}
