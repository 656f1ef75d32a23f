import { type Command, Option } from "commander";
import type { ExecutorCatalog } from "../../executor/executor.ts";
import { addRunnerFlags, configOption, toggle } from "../options.ts";

/** `run` with its flags. */
export function addRunCommand(program: Command): Command {
  return program
    .command("run")
    .description("work on jobs for all configured runners")
    .addOption(configOption().env("CONFIG_FILE"))
    .addOption(
      new Option(
        "-d, --working-directory <dir>",
        "where builds are kept, unless builds_dir says otherwise; default: the current one",
      ),
    )
    .addOption(new Option("-u, --user <account>", "account that scripts of the shell executor run under"))
    .addOption(new Option("-n, --service <name>", "name of the service, for the service manager").hideHelp())
    .addOption(toggle("--syslog", "accepted; the log goes to stderr, where a service manager takes it up"))
    .addOption(toggle("--wishes-on-stdin", "obey a service host").hideHelp())
    .addOption(new Option("--listen-address <address>", "serve metrics there, such as :9252").env("LISTEN_ADDRESS"))
    .addOption(
      new Option("--metrics-server <address>", "the same as --listen-address").env("METRICS_SERVER").hideHelp(),
    );
}

/** `run-single` with its flags. */
export function addRunSingleCommand(program: Command, { names, words }: ExecutorCatalog): Command {
  const single = program
    .command("run-single")
    .description("work on jobs for one runner, given by flags or by --config with --runner")
    .addOption(new Option("-c, --config <file>", "configuration file to take --runner from"))
    .addOption(new Option("-r, --runner <name>", "entry of the configuration file"))
    .addOption(new Option("-u, --url <url>", "address of the coordinator").env("CI_SERVER_URL"))
    .addOption(new Option("-t, --token <token>", "token of the runner").env("CI_SERVER_TOKEN"))
    .addOption(new Option("--name <name>", "name of the runner").env("RUNNER_NAME"))
    .addOption(new Option("--executor <name>", `where jobs run: ${names.join(", ")}`).env("RUNNER_EXECUTOR"))
    .addOption(new Option("--max-builds <number>", "jobs before exiting; 0: no limit"))
    .addOption(new Option("--wait-timeout <seconds>", "time without a job before exiting; 0: for ever"))
    .addOption(new Option("-d, --working-directory <dir>", "where builds are kept; default: the current one"))
    .addOption(new Option("--user <account>", "account that scripts of the shell executor run under"));
  return addRunnerFlags(single, words);
}
