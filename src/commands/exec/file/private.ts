import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import type { VariableSpec } from "../../../local/coordinator/jobs/job.ts";
import type { Git } from "../../../local/sources/git.ts";
import { fileInside } from "../../../local/sources/inside.ts";
import type { WorkingTree } from "../../../local/sources/working-tree.ts";
import type { CommandContext } from "../../context.ts";
import { projectIdOf } from "../here/places.ts";
import { readEnvFile } from "../options.ts";

/** The file lies in the project and is for one person, so git has to ignore it. */
const PROJECT_FILE = ".alloy-exec.env";

/**
 * Variables that a person keeps for a project: secret, masked in the output, and weaker than what the command line gives.
 * @throws {CommandError} a line is no variable
 */
export async function privateVariables(
  tree: WorkingTree,
  env: CommandContext["env"],
  git: Git,
): Promise<{ readonly variables: readonly VariableSpec[]; readonly notes: readonly string[] }> {
  const notes: string[] = [];
  const variables: VariableSpec[] = [];
  const ofPerson = join(
    configDir(env),
    "alloy-runner",
    "exec",
    `${tree.name}-${projectIdOf(tree.dir).toString(16)}.env`,
  );
  if (await isFile(ofPerson)) variables.push(...(await readEnvFile(ofPerson, tree.dir)));
  const inProject = join(tree.dir, PROJECT_FILE);
  if (!(await isFile(inProject))) return { variables, notes };
  // The project's author could have made it a link to a file of the person's, for jobs to send away.
  const real = fileInside(tree.dir, PROJECT_FILE);
  if (real === undefined) notes.push(`${PROJECT_FILE} is a link out of the project, and not read: --env-file takes it`);
  else variables.push(...(await readEnvFile(real, tree.dir)));
  if (tree.repository !== null && (await git.attempt(["check-ignore", "--quiet", PROJECT_FILE])).code !== 0)
    notes.push(`${PROJECT_FILE} is not ignored by git: list it in .gitignore, or its secrets are part of the sources`);
  return { variables, notes };
}

async function isFile(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found?.isFile() ?? false;
}

function configDir(env: CommandContext["env"]): string {
  const given = env.XDG_CONFIG_HOME;
  return given !== undefined && isAbsolute(given) ? given : join(env.HOME || homedir(), ".config");
}
