import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { parseDuration } from "../../config/units.ts";
import { CommandError, describeError } from "../../errors.ts";
import type { VariableSpec } from "../../local/coordinator/jobs/job.ts";
import type { LoadOptions } from "../../local/gitlab/load.ts";
import type { JobInputs } from "../../local/gitlab/plan/definitions/job-inputs.ts";
import type { ProjectVariable } from "../../local/gitlab/run/project-variables.ts";
import type { CommandContext } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import { NAME, readEnvText } from "./env-file.ts";

/** What `exec` was asked for. */
export interface ExecOptions {
  /** Names of jobs; none: the pipeline. */
  readonly jobs: readonly string[];
  readonly needs: boolean;
  /** Whether only what the named jobs need runs, and not these jobs. */
  readonly onlyNeeds: boolean;
  readonly parallel: number;
  readonly committed: boolean;
  readonly ref: string | undefined;
  /** They win over those of the file; masked where they came from `--env-file`. */
  readonly variables: readonly ProjectVariable[];
  /** Names of variables that no job gets. */
  readonly unset: readonly string[];
  readonly timeoutSeconds: number;
  readonly address: string | undefined;
  readonly mode: "run" | "list" | "print" | "dry-run";
  /** The CI file; `undefined`: the project's. What follows is for GitLab's. */
  readonly file: string | undefined;
  readonly json: boolean;
  readonly csv: boolean;
  /** Whether to list jobs that are not in the pipeline, too. */
  readonly all: boolean;
  /** `CI_PIPELINE_SOURCE`. */
  readonly source: string | undefined;
  /** Branch that a merge request is to go into. */
  readonly target: string | undefined;
  /** Inputs of the file. */
  readonly inputs: ReadonlyMap<string, string>;
  /** Values that a person keeps for inputs, of which the file takes those that it declares. */
  readonly offered?: LoadOptions["offered"];
  /** Inputs of its jobs. */
  readonly jobInputs: JobInputs;
  /** Files that count as changed, instead of those that git reports. */
  readonly changed: readonly string[] | "all" | undefined;
  readonly manual: readonly string[];
  readonly stages: readonly string[];
  /** Checkouts of other projects that are included, by project. */
  readonly checkouts: ReadonlyMap<string, string>;
  /** Whether to use the stored copies of fetched files. */
  readonly offline: boolean;
  /** Whether to fetch again what does not change. */
  readonly fetchIncludes: boolean;
  readonly noDelay: boolean;
  /** Whether a pipeline is made although the workflow says no. */
  readonly ignoreWorkflow: boolean;
  /** Whether a pipeline that waits for a manual job at its end is no success. */
  readonly strictManual: boolean;
  readonly verbose: boolean;
  /** Whether what jobs print is left out. */
  readonly quiet?: true;
  readonly artifactsDir: string | undefined;
}

/** AlloyCI's limit of a job. */
const TIMEOUT_SECONDS = 3600;

/** @throws {CommandError} what cannot be used, and what was expected */
export async function readExecOptions(
  jobs: readonly string[],
  values: FlagValues,
  context: Pick<CommandContext, "cwd" | "env">,
  processors: number,
): Promise<ExecOptions> {
  const modes = (["list", "print", "dryRun"] as const).filter((name) => values[name] === true);
  if (modes.length > 1) throw new CommandError("Choose one of --list, --print and --dry-run");
  if ((values.json === true || values.all === true) && values.list !== true)
    throw new CommandError("--json and --all are for --list");
  const { source, ref } = caseOf(textOf(values, "source"), textOf(values, "ref"));
  if (textOf(values, "target") !== undefined && source !== "merge_request_event")
    throw new CommandError("--target is for --source merge_request_event");
  if (values.offline === true && values.fetchIncludes === true)
    throw new CommandError("Choose one of --offline and --fetch-includes");
  const parallel = textOf(values, "jobs");
  if (parallel !== undefined && !/^[1-9]\d{0,3}$/.test(parallel))
    throw new CommandError(`--jobs is the number of jobs at once, from 1 to 9999, not "${parallel}"`);
  if (values.withNeeds === true && jobs.length === 0 && listOf(values.stage).length === 0)
    throw new CommandError("--with-needs is for named jobs: without names all jobs run anyway");
  return {
    jobs,
    needs: values.withNeeds === true,
    onlyNeeds: values.onlyNeeds === true,
    parallel: parallel === undefined ? Math.max(1, processors) : Number(parallel),
    committed: values.committed === true,
    ref,
    variables: [
      ...(await Promise.all(listOf(values.envFile).map((file) => readEnvFile(file, context.cwd)))).flat(),
      ...listOf(values.var).map((text) => readVariable(text, context.env)),
    ],
    unset: listOf(values.unsetVariable),
    timeoutSeconds: readTimeout(textOf(values, "timeout")),
    address: textOf(values, "address"),
    mode: values.list === true ? "list" : values.print === true ? "print" : values.dryRun === true ? "dry-run" : "run",
    file: textOf(values, "file"),
    json: values.json === true,
    csv: values.csv === true,
    all: values.all === true,
    source,
    target: textOf(values, "target"),
    ...inputsOf(values.input),
    changed:
      values.evaluateRuleChanges === false ? "all" : values.changed === undefined ? undefined : listOf(values.changed),
    manual: listOf(values.manual),
    stages: listOf(values.stage),
    checkouts: new Map(
      [...pairsOf(values.include, "--include")].map(([project, dir]) => [
        project.toLowerCase(),
        resolve(context.cwd, dir),
      ]),
    ),
    offline: values.offline === true,
    fetchIncludes: values.fetchIncludes === true,
    noDelay: values.delay === false,
    ignoreWorkflow: values.ignoreWorkflow === true,
    strictManual: values.strictManual === true,
    verbose: values.verbose === true,
    ...(values.quiet === true ? { quiet: true } : {}),
    artifactsDir: textOf(values, "artifacts"),
  };
}

/** Sources of pipelines that GitLab knows. */
/**
 * `tag` is a push of one, which GitLab's own list of sources does not tell from another.
 * @throws {CommandError} a source that does not exist, or a tag without a name
 */
function caseOf(source: string | undefined, ref: string | undefined): Pick<ExecOptions, "source" | "ref"> {
  if (source !== undefined && !SOURCES.includes(source))
    throw new CommandError(`--source is one of ${SOURCES.join(", ")}, not "${source}"`);
  if (source !== "tag") return { source, ref };
  if (ref === undefined || ref.startsWith("refs/heads/"))
    throw new CommandError("--source tag is a push of a tag: name it with --ref, such as --ref v1");
  return { source: "push", ref: ref.startsWith("refs/") ? ref : `refs/tags/${ref}` };
}

const SOURCES: readonly string[] =
  "push tag merge_request_event schedule web api trigger pipeline parent_pipeline chat external external_pull_request_event webide".split(
    " ",
  );

/** `NAME=VALUE` texts. */
function pairsOf(value: unknown, flag: string): Map<string, string> {
  return new Map(
    listOf(value).map((text) => {
      const split = text.indexOf("=");
      if (split <= 0) throw new CommandError(`${flag} is NAME=VALUE, not "${text}"`);
      return [text.slice(0, split), text.slice(split + 1)];
    }),
  );
}

/** `NAME=VALUE` is for the file, `JOB:NAME=VALUE` for a job: names of inputs have no colon. */
function inputsOf(value: unknown): Pick<ExecOptions, "inputs" | "jobInputs"> {
  const inputs = new Map<string, string>();
  const jobInputs = new Map<string, Map<string, string>>();
  for (const [name, text] of pairsOf(value, "--input")) {
    const [, job, input] = /^(.+):([\w-]+)$/s.exec(name) ?? [];
    if (job === undefined || input === undefined) {
      inputs.set(name, text);
      continue;
    }
    const own = jobInputs.get(job) ?? new Map<string, string>();
    jobInputs.set(job, own.set(input, text));
  }
  return { inputs, jobInputs };
}

function listOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

/** `NAME=value`, or `NAME` alone for what the environment has. */
function readVariable(text: string, env: CommandContext["env"]): VariableSpec {
  const split = text.indexOf("=");
  const key = split < 0 ? text : text.slice(0, split);
  if (!NAME.test(key))
    throw new CommandError(`--var is NAME=value or the NAME of an environment variable, not "${key}"`);
  const value = split < 0 ? env[key] : text.slice(split + 1);
  if (value === undefined) throw new CommandError(`--var ${key}: there is no environment variable of that name`);
  return { key, value };
}

/** The lines of a file with secret variables. */
export async function readEnvFile(name: string, cwd: string): Promise<VariableSpec[]> {
  const text = await readFile(resolve(cwd, name), "utf8").catch((cause: unknown) => {
    throw new CommandError(`--env-file ${name} cannot be read: ${describeError(cause)}`, { cause });
  });
  return readEnvText(text, name).map((one) => ({ ...one, masked: true }));
}

function readTimeout(text: string | undefined): number {
  if (text === undefined) return TIMEOUT_SECONDS;
  const seconds = Math.ceil((parseDuration(text) ?? 0) / 1000);
  if (seconds === 0) throw new CommandError(`--timeout is a number of seconds, or such as 90s, 15m, 2h; not "${text}"`);
  return seconds;
}
