import { CommandError } from "../../../errors.ts";
import type { VariableSpec } from "../../../local/coordinator/jobs/job.ts";
import type { CiFile } from "../../../local/pipeline/ci-file.ts";
import { withNeeds } from "../../../local/pipeline/needs.ts";
import { fetchVariables, type Snapshot } from "../../../local/sources/snapshot.ts";
import type { ExecOptions } from "../options.ts";

/** Names of the jobs that run; `undefined`: all that a push would run. */
export function onlyOf(options: ExecOptions, file: CiFile, { ref }: Snapshot): readonly string[] | undefined {
  if (options.jobs.length === 0) return undefined;
  return options.needs ? withNeeds(options.jobs, file, ref) : options.jobs;
}

/** @throws {CommandError} a flag was typed that only GitLab's file has a use for */
export function refuseGitlabFlags(options: ExecOptions, { file }: CiFile): void {
  const typed = [
    options.json ? "--json" : "",
    options.all ? "--all" : "",
    options.mode === "print" ? "--print" : "",
    options.source === undefined ? "" : "--source",
    options.inputs.size + options.jobInputs.size === 0 ? "" : "--input",
    options.ignoreWorkflow ? "--ignore-workflow" : "",
    options.strictManual ? "--strict-manual" : "",
    options.changed === undefined ? "" : "--changed",
    options.manual.length === 0 ? "" : "--manual",
    options.stages.length === 0 ? "" : "--stage",
    options.artifactsDir === undefined ? "" : "--artifacts",
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
