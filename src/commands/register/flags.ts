import { type Command, Option } from "commander";
import type { ExecutorCatalog } from "../../executor/executor.ts";
import { addRunnerFlags, configOption, toggle } from "../options.ts";

/** `register` with its flags. */
export function addRegisterCommand(program: Command, { names, words }: ExecutorCatalog): Command {
  const register = program
    .command("register")
    .description("get a token from a coordinator and add a runner to the configuration")
    .addOption(configOption().env("CONFIG_FILE"))
    .addOption(toggle("-n, --non-interactive", "ask nothing", "REGISTER_NON_INTERACTIVE"))
    .addOption(new Option("-u, --url <url>", "address of the coordinator").env("CI_SERVER_URL"))
    .addOption(
      new Option("-r, --registration-token <token>", "token that permits registration").env("REGISTRATION_TOKEN"),
    )
    .addOption(new Option("-t, --token <token>", "token of a runner that exists already").env("CI_SERVER_TOKEN"))
    .addOption(new Option("--name <name>", "name of the runner; default: the host's").env("RUNNER_NAME"))
    .addOption(new Option("--description <name>", "the same as --name").hideHelp())
    .addOption(new Option("--tag-list <tags>", "comma-separated tags").env("RUNNER_TAG_LIST"))
    .addOption(
      toggle(
        "--run-untagged",
        "take jobs without tags, too (always, where the runner has none)",
        "REGISTER_RUN_UNTAGGED",
      ),
    )
    .addOption(toggle("--locked", "tie the runner to its project; default: true", "REGISTER_LOCKED"))
    .addOption(toggle("--paused", "GitLab: give it no jobs at first", "REGISTER_PAUSED"))
    .addOption(
      new Option("--access-level <level>", "GitLab: not_protected or ref_protected").env("REGISTER_ACCESS_LEVEL"),
    )
    .addOption(
      new Option("--maximum-timeout <seconds>", "GitLab: the longest time a job may have").env(
        "REGISTER_MAXIMUM_TIMEOUT",
      ),
    )
    .addOption(
      new Option("--maintenance-note <text>", "GitLab: for its administrators").env("REGISTER_MAINTENANCE_NOTE"),
    )
    .addOption(
      new Option(
        "--template-config <file>",
        "a file with one [[runners]] entry: what flags and answers leave open is taken from there, its token apart",
      ).env("TEMPLATE_CONFIG_FILE"),
    )
    .addOption(
      toggle("--leave-runner", "keep the registration even if the entry cannot be saved", "REGISTER_LEAVE_RUNNER"),
    )
    .addOption(new Option("--executor <name>", `where jobs run: ${names.join(", ")}`).env("RUNNER_EXECUTOR"));
  return addRunnerFlags(register, words);
}
