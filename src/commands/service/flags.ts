import { type Command, Option } from "commander";
import { configOption, toggle } from "../options.ts";
import type { ServiceAction } from "./command.ts";

const DESCRIPTIONS: Readonly<Record<ServiceAction, string>> = {
  install: "let the system's service manager run this program",
  uninstall: "stop the service and remove its definition",
  start: "start the service",
  stop: "stop the service; running jobs may finish first",
  restart: "start the service anew; durable jobs go on, others may finish first",
  status: "say whether the service runs; exit status 1: it does not",
};

export const SERVICE_ACTIONS: readonly ServiceAction[] = ["install", "uninstall", "start", "stop", "restart", "status"];

/** The command of the system's service manager, with its flags. */
export function addServiceCommand(program: Command, action: ServiceAction): Command {
  const command = program
    .command(action)
    .description(DESCRIPTIONS[action])
    .addOption(new Option("-n, --service <name>", "name of the service; default: alloy-runner"))
    .addOption(toggle("--user-service", "the service of this user, also as root (others than root have no other)"));
  if (action !== "status") command.addOption(toggle("--dry-run", "print what would be done, and do nothing"));
  if (action === "install") {
    command
      .addOption(configOption())
      .addOption(new Option("-d, --working-directory <dir>", "where builds are kept; default: the current one"))
      .addOption(new Option("-u, --user <account>", "account that scripts of the shell executor run under"))
      .addOption(new Option("--init-user <account>", "account that the runner itself runs under; default: root"))
      .addOption(new Option("-p, --password <password>", "of --init-user, on Windows").env("SERVICE_PASSWORD"))
      .addOption(toggle("--syslog", "accepted; the service manager keeps the log"))
      .addOption(new Option("--drain-timeout <time>", "how long a stop waits for running jobs: 90s, 30m; default: 2h"));
  }
  command.addOption(
    new Option("--service-host <file>", "alloy-runner-service.exe; default: beside this program").hideHelp(
      process.platform !== "win32",
    ),
  );

  return command;
}
