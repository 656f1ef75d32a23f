import { type Command, Option } from "commander";
import { addRunnerFlags, collect } from "./options.ts";
import { attributeOf, type FlagValues, runnerFlags } from "./runner-flags.ts";

/** The flags of `exec`. `executors`: names for its help. */
export function addExecFlags(command: Command, executors: readonly string[]): Command {
  command
    .addOption(new Option("-c, --config <file>", "configuration file to take --runner from"))
    .addOption(new Option("-r, --runner <name>", "entry of the configuration file; default: its only one"))
    .addOption(
      new Option("--executor <name>", `where jobs run: ${executors.join(", ")}; default: shell, this machine`).env(
        "RUNNER_EXECUTOR",
      ),
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
    .addOption(new Option("--dry-run", "show the plan and the script of each stage and run nothing"))
    .addOption(
      new Option(
        "--address <host>",
        "where jobs reach this machine to fetch the sources; default: found out by executor",
      ),
    );
  return addRunnerFlags(command, (flag) => !NOT_OF_EXEC.test(flag));
}

/** Of a line to a coordinator, and `exec` brings its own. */
const NOT_OF_EXEC = /^(?:limit|request-concurrency|clone-url|tls-.*)$/;

/**
 * With `--config` the file describes the executor; variables such as `DOCKER_HOST`, which are there for other programs, too, and
 * would describe it without that, are left out. What was typed stays.
 */
export function flagsOfExec(command: Command, values: FlagValues): FlagValues {
  if (typeof values.config !== "string") return values;
  const ofEntry = new Set(["executor", ...runnerFlags.map(({ flag }) => attributeOf(flag))]);
  return Object.fromEntries(
    Object.entries(values).filter(([name]) => !ofEntry.has(name) || command.getOptionValueSource(name) !== "env"),
  );
}
