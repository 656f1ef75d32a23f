import { type Command, Option } from "commander";
import { configOption, toggle } from "../options.ts";

/** The commands that speak to a running runner, with what each does. */
const COMMANDS = {
  jobs: "show what the running runner does: its entries, jobs in progress, the last that ended",
  logs: "print the trace of a job in progress, secrets masked",
  cancel: "stop a job in progress; its after_script still runs",
  pause: "ask for no more jobs, with one entry or with all; what runs goes on",
  resume: "ask for jobs again",
  drain: "ask for no more jobs, and end the runner after the last, as SIGQUIT does",
  reload: "load the configuration now, and say whether it is in force",
  gc: "remove what is kept between jobs beyond the budgets of [housekeeping], oldest use first; works without a runner, too",
  top: "watch the running runner in the terminal: entries, jobs, traces; keys to follow, cancel, pause, drain",
} as const;

export type ControlCommand = keyof typeof COMMANDS;

export const CONTROL_COMMANDS: readonly ControlCommand[] = [
  "jobs",
  "logs",
  "cancel",
  "pause",
  "resume",
  "drain",
  "reload",
  "gc",
  "top",
];

export function addControlCommand(program: Command, name: ControlCommand): Command {
  const command = addRunningOptions(program.command(name).description(COMMANDS[name]));
  if (name === "logs" || name === "cancel") {
    command
      .argument("<job>", "its number at the coordinator, as jobs shows it")
      .addOption(new Option("--runner <name>", "of this entry, where several coordinators have a job of that number"));
  }
  if (name === "logs") command.addOption(new Option("-f, --follow", "go on until the job has ended"));
  if (name === "gc") command.addOption(toggle("--dry-run", "only show what would go, and why"));
  if (name === "jobs") command.addOption(new Option("-a, --all", "all that are remembered of those that ended: 200"));
  if (name === "pause" || name === "resume") command.argument("[runner]", "name or id of an entry; default: all");
  return command;
}

/** Which running runner is meant, and how its answer is printed. */
function addRunningOptions(command: Command): Command {
  return command
    .addOption(configOption().env("CONFIG_FILE"))
    .addOption(new Option("--state-dir <dir>", "state_dir of the runner, where its configuration does not lead there"))
    .addOption(toggle("--json", "print JSON"));
}
