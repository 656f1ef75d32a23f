import { type Command, Option } from "commander";
import { CommandError } from "../../errors.ts";
import type { ExecutorWords } from "../../executor/words.ts";
import { addRunnerFlags, collect } from "../options.ts";
import { attributeOf, type FlagValues, runnerFlags, textOf } from "../register/runner-flags.ts";
import { addPeerFlags } from "./peer/flags.ts";

/** The flags of `exec`. */
export function addExecFlags(command: Command, executors: readonly ExecutorWords[]): Command {
  const names = executors.map(({ name }) => name).join(", ");
  command
    .addOption(new Option("-c, --config <file>", "configuration file to take --runner from"))
    .addOption(new Option("-r, --runner <name>", "entry of the configuration file; default: its only one"))
    .addOption(
      new Option("--executor <name>", `where jobs run: ${names}; default: shell, this machine`).env("RUNNER_EXECUTOR"),
    )
    .addOption(new Option("-j, --jobs <number>", "jobs of a stage at once; default: one per processor"))
    .addOption(new Option("--with-needs", "before the named jobs, run those whose artifacts they get"))
    .addOption(new Option("--committed", "only what HEAD has; default: the files as they are, also untracked ones"))
    .addOption(new Option("--ref <ref>", "run as for this branch or refs/tags/TAG; default: what is checked out"))
    .addOption(
      new Option(
        "--var <name=value>",
        "variable that wins over the file's; NAME alone takes the environment's",
      ).argParser(collect),
    )
    .addOption(
      new Option("--env-file <file>", "NAME=value lines: secret variables, masked in the output").argParser(collect),
    )
    .addOption(new Option("--timeout <time>", "longest run of a job, such as 90s, 15m; default: 1h"))
    .addOption(new Option("--list", "show the jobs and run nothing"))
    .addOption(new Option("--file <file>", "CI file; default: .alloy-ci.yml, .alloy-ci.json, else .gitlab-ci.yml"))
    .addOption(new Option("--dry-run", "show the plan and the script of each stage and run nothing"))
    .addOption(
      new Option(
        "--address <host>",
        "where jobs reach this machine to fetch the sources; default: found out by executor",
      ),
    );
  addGitlabFlags(command);
  addPeerFlags(command);
  return addRunnerFlags(command, executors, (flag) => !NOT_OF_EXEC.test(flag));
}

/** Flags that decide over a pipeline of `.gitlab-ci.yml`. */
function addGitlabFlags(command: Command): void {
  command
    .addOption(new Option("--json", "with --list: as JSON"))
    .addOption(new Option("--all", "with --list: also jobs that are not in the pipeline, and why"))
    .addOption(new Option("--print", "show the CI file with all that it includes, and where it comes from"))
    .addOption(
      new Option(
        "--source <source>",
        "what made the pipeline: push, tag (with --ref), merge_request_event, schedule, web…; default: push",
      ),
    )
    .addOption(new Option("--target <branch>", "where the merge request is to go; default: the default branch"))
    .addOption(
      new Option("--input <[job:]name=value>", "input of the CI file, or of one of its jobs").argParser(collect),
    )
    .addOption(new Option("--changed <file...>", "files that have changed; default: since the default branch"))
    .addOption(new Option("--manual <job>", "run this manual job, too; all: all of them").argParser(collect))
    .addOption(new Option("--stage <stage>", "run the jobs of this stage").argParser(collect))
    .addOption(
      new Option("--include <project=dir>", "take includes of another project from its checkout").argParser(collect),
    )
    .addOption(new Option("--offline", "fetch no included files: take them as they were the last time"))
    .addOption(new Option("--fetch-includes", "fetch included files again, also those of fixed commits"))
    .addOption(new Option("--ignore-workflow", "make a pipeline although workflow:rules say no"))
    .addOption(new Option("--strict-manual", "exit with status 3 where manual jobs hold up the pipeline at its end"))
    .addOption(new Option("--verbose", "say which predefined variables are not set here"))
    .addOption(new Option("--no-delay", "start delayed jobs at once"))
    .addOption(new Option("--artifacts <dir>", "keep what jobs upload in this directory"));
}

/** Flags for the connection to a coordinator, which `exec` does not have because it brings its own coordinator. */
const NOT_OF_EXEC = /^(?:limit|request-concurrency|clone-url|tls-.*)$/;

/**
 * What was asked for. With `--config` the file describes the executor; variables such as `DOCKER_HOST`, which are there for other
 * programs, too, and would describe it without that, are left out.
 * @param jobs its arguments: the Go runner had the executor in front of the jobs
 * @throws {CommandError} a flag was typed that the executor has no use for: somebody would wonder why it has no effect
 */
export function flagsOfExec(
  command: Command,
  values: FlagValues,
  jobs: readonly string[],
  words: readonly ExecutorWords[],
): FlagValues {
  const flags = runnerFlags(words);
  const from = (name: string): string | undefined => command.getOptionValueSource(name);
  if (typeof values.config === "string") {
    const ofEntry = new Set(["executor", ...flags.map(({ flag }) => attributeOf(flag))]);
    return Object.fromEntries(Object.entries(values).filter(([name]) => !ofEntry.has(name) || from(name) !== "env"));
  }
  const executor = textOf(values, "executor") ?? "shell";
  for (const { flag, executors } of flags) {
    const [first] = executors ?? [];
    if (first === undefined || executors?.includes(executor) === true || executors?.includes(jobs[0] ?? "") === true)
      continue;
    if (from(attributeOf(flag)) === "cli" && executor === "shell")
      throw new CommandError(
        `--${flag} means nothing to the executor "shell", which is the default: add --executor ${first}`,
      );
  }
  return values;
}
