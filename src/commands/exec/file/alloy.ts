import { CommandError } from "../../../errors.ts";
import type { VariableSpec } from "../../../local/coordinator/jobs/job.ts";
import { means } from "../../../local/gitlab/plan/choose.ts";
import type { CiFile } from "../../../local/pipeline/ci-file.ts";
import { runsOn } from "../../../local/pipeline/ci-refs.ts";
import { loadedFile } from "../../../local/pipeline/load-file.ts";
import { findJob, needsOf, withNeeds } from "../../../local/pipeline/needs.ts";
import { planFile } from "../../../local/pipeline/plan-file.ts";
import { fetchVariables, refOf, type Snapshot } from "../../../local/sources/snapshot.ts";
import type { WorkingTree } from "../../../local/sources/working-tree.ts";
import type { Work } from "../engine.ts";
import type { ExecOptions } from "../options.ts";

/**
 * The pipeline that AlloyCI would make of its file, for the case that the options describe.
 * @throws {CommandError} a job or a stage is not there, or a flag was typed for which the file has no words
 */
export function loadAlloy(file: CiFile, tree: WorkingTree, options: ExecOptions, before: readonly string[]): Work {
  refuseGitlabFlags(options, file);
  const notes: string[] = [];
  const ref = refOf(tree, options.ref, notes);
  const typed = options.jobs.flatMap((name) => meantBy(name, file));
  const ofStages = options.stages.flatMap((stage) => jobsOf(stage, file, ref));
  const picked = [...typed, ...ofStages];
  const wanted = options.needs ? withNeeds(picked, file, ref) : picked;
  const run = new Set(options.onlyNeeds ? wanted.filter((name) => !typed.includes(name)) : wanted);
  const named = new Set([...run].filter((name) => !ofStages.includes(name)));
  const plan = planFile(file, ref, named);
  return {
    dialect: "alloy",
    file: file.file,
    loaded: loadedFile(file, plan, { ref, name: tree.name }),
    chosen: picked.length === 0 ? new Set(plan.jobs.map(({ name }) => name)) : run,
    isPlayed: ({ name }) =>
      named.has(name) || options.manual.some((asked) => asked === "all" || means(asked, name, name)),
    notes: [
      ...before,
      ...file.warnings,
      ...notes,
      ...(picked.length === 0 ? [] : withoutArtifacts(file, ref, run, options)),
    ],
  };
}

function meantBy(typed: string, file: CiFile): string[] {
  const found = file.jobs.filter(({ name }) => means(typed, name, name)).map(({ name }) => name);
  return found.length === 0 ? [findJob(typed, file).name] : found;
}

function jobsOf(stage: string, file: CiFile, ref: string): string[] {
  const found = file.jobs.filter((job) => job.stage === stage && runsOn(job, ref)).map(({ name }) => name);
  if (found.length === 0)
    throw new CommandError(
      `There is no job of the stage "${stage}" for ${ref} in ${file.file}; its stages are ${file.stages.join(", ")}`,
    );
  return found;
}

/** Jobs that a pipeline would have given artifacts that they do not get here. */
function withoutArtifacts(file: CiFile, ref: string, run: ReadonlySet<string>, { needs }: ExecOptions): string[] {
  return file.jobs.flatMap((job) => {
    if (!run.has(job.name)) return [];
    const missing = needsOf(job, file, ref).filter(({ name }) => !run.has(name));
    const hint = needs ? "" : "; --with-needs runs them first";
    const names = missing.map(({ name }) => name).join(", ");
    return names === ""
      ? []
      : [`"${job.name}" gets artifacts of ${names} in a pipeline, and runs without them here${hint}`];
  });
}

function refuseGitlabFlags(options: ExecOptions, { file }: CiFile): void {
  const typed = [
    options.source === undefined ? "" : "--source",
    options.inputs.size + options.jobInputs.size === 0 ? "" : "--input",
    options.ignoreWorkflow ? "--ignore-workflow" : "",
    Array.isArray(options.changed) ? "--changed" : "",
  ].filter((flag) => flag !== "");
  if (typed.length > 0)
    throw new CommandError(`${typed.join(", ")}: for .gitlab-ci.yml only, and ${file} is AlloyCI's`);
}

/** Variables that AlloyCI takes from the commit and that this coordinator would have to make up. */
export function predefined(snapshot: Snapshot): VariableSpec[] {
  const { message, author } = snapshot;
  return [
    ...(message === "" ? [] : [{ key: "CI_COMMIT_MESSAGE", value: message, raw: true }]),
    ...(author === "" ? [] : [{ key: "CI_COMMIT_PUSHER", value: author, raw: true }]),
    ...fetchVariables(snapshot),
  ];
}
