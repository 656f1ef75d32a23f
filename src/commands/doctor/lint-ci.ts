import { dirname, resolve } from "node:path";
import { CommandError, ConfigError } from "../../errors.ts";
import { foreseeChildren } from "../../local/gitlab/run/foreseen.ts";
import { createGit } from "../../local/sources/git.ts";
import { findWorkingTree } from "../../local/sources/working-tree.ts";
import type { CommandContext } from "../context.ts";
import { readProjectFile } from "../exec/file/file.ts";
import { loadGitlab } from "../exec/file/gitlab.ts";
import { readExecOptions } from "../exec/options.ts";
import type { FlagValues } from "../register/runner-flags.ts";
import type { Note } from "./finding.ts";

/** Everything that is wrong with a CI file, for the pipeline of a push; nothing of it is run. */
export async function lintCiFile(file: string, values: FlagValues, context: CommandContext): Promise<readonly Note[]> {
  const dir = dirname(resolve(context.cwd, file));
  const gitIn = (where: string) => createGit(where, context.env, context.signal);
  try {
    const tree = await findWorkingTree(dir, gitIn);
    const options = await readExecOptions([], { file, offline: values.offline }, context, 1);
    const found = await readProjectFile(tree, options, context.cwd, gitIn);
    if (found.kind === "alloy") {
      const { jobs, warnings } = found.file;
      return told(file, `${jobs.length} jobs`, warnings, []);
    }
    const { loaded, notes } = await loadGitlab(found.file, tree, options, context, context.signal);
    const { plan, hints } = loaded;
    const children = await foreseeChildren(loaded);
    const wrong = [...children].flatMap(([job, child]) =>
      "problem" in child ? child.problem.split("\n").map((line) => `${job}: ${line}`) : [],
    );
    const what =
      plan.refusal === null ? `${plan.jobs.length} jobs for a push of this branch` : `no pipeline: ${plan.refusal}`;
    return told(file, what, [...notes, ...wrong], hints);
  } catch (error) {
    if (!(error instanceof ConfigError) && !(error instanceof CommandError)) throw error;
    return error.message.split("\n").map((cause) => noteOf("error", cause));
  }
}

function told(file: string, what: string, warnings: readonly string[], hints: readonly string[]): Note[] {
  return [
    ...warnings.map((cause) => noteOf("warning", cause)),
    { severity: "ok", check: "pipeline", of: "", cause: `${file}: ${what}` },
    ...hints.map((cause): Note => ({ severity: "ok", check: "pipeline", of: "", cause })),
  ];
}

/** The sentences already say what to do. */
function noteOf(severity: "error" | "warning", cause: string): Note {
  return { severity, check: "pipeline", of: "", cause, remedy: "" };
}
