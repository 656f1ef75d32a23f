import { Command, Option } from "commander";
import { normalizeArguments } from "../commands/arguments.ts";
import { addControlCommand, CONTROL_COMMANDS } from "../commands/control/flags.ts";
import { addExecFlags, flagsOfExec } from "../commands/exec/flags.ts";
import { addLogFlags, LOG_FORMATS, LOG_LEVELS, logSettings } from "../commands/log-options.ts";
import { addSelectors, configOption, toggle } from "../commands/options.ts";
import { addRegisterCommand } from "../commands/register/flags.ts";
import { addRunCommand, addRunSingleCommand } from "../commands/run/flags.ts";
import { addServiceCommand, SERVICE_ACTIONS } from "../commands/service/flags.ts";
import { END_JOBS_COMMAND } from "../commands/service/service.ts";
import type { ExecutorCatalog } from "../executor/executor.ts";
import { versionText } from "../version.ts";
import { createOutput, endOutput } from "./output.ts";
import { type Action, type LocalAction, perform, performHere, report, type Surroundings } from "./perform.ts";

/**
 * Command lines → commands, over the executors that there are. Whatever a command does is loaded when it is called, so that
 * `list` starts at once.
 */
export async function startProgram(executors: ExecutorCatalog): Promise<void> {
  const output = createOutput(() => process.stdout);
  const program = createProgram({ executors, output });
  const longNames = new Set(
    [program, ...program.commands].flatMap((command) =>
      command.options.flatMap((option) => option.long?.slice(2) ?? []),
    ),
  );
  try {
    const argv = normalizeArguments(process.argv.slice(2), longNames);
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    // What is wrong with the output is said below.
    process.exitCode = error === output.errored ? 1 : report(error);
  }
  try {
    await endOutput(output);
  } catch (error) {
    const status = report(error);
    process.exitCode ||= status;
  }
  process.exit();
}

/** Named here, too, so that nothing of it is loaded for other commands. */
const FILES_COMMAND = "internal-files";

function createProgram({ executors, output }: Surroundings): Command {
  const program = addLogFlags(
    new Command("alloy-runner")
      .description("Runs CI jobs for an AlloyCI or GitLab coordinator.")
      .version(versionText, "-v, --version", "print version, revision, runtime and platform")
      .helpOption("-h, --help", "show this help, or that of a command")
      .configureOutput({ writeOut: (text) => void output.write(text) }),
  )
    .showSuggestionAfterError()
    .enablePositionalOptions(false)
    .exitOverride();
  const does = (command: Command, action: Action): Command =>
    command.action(() => perform(command, { executors, output }, action));
  const doesHere = (command: Command, action: LocalAction): Command =>
    command.action(() => performHere(command, { executors, output }, action));

  // Who asks a running runner does so again and again, and sees none of the flags of entries.
  const asks = CONTROL_COMMANDS.some((name) => name === process.argv[2]);
  const flagged = asks ? { ...executors, words: [] } : executors;

  does(addRegisterCommand(program, flagged), async (values, context) => {
    const { registerCommand } = await import("../commands/register/register.ts");
    const { askLines, askTerminal } = await import("../commands/register/ask.ts");
    const named =
      values.description === undefined || values.name !== undefined ? values : { ...values, name: values.description };
    const ask = values.nonInteractive === true ? null : process.stdin.isTTY ? await askTerminal() : askLines();
    try {
      await registerCommand(named, ask, context);
    } finally {
      ask?.close();
    }
  });
  const list = program.command("list").description("show the configured runners");
  doesHere(list.addOption(configOption().env("CONFIG_FILE")), async (values, context) =>
    (await import("../commands/list.ts")).listCommand(values, context),
  );
  const verify = program.command("verify").description("ask the coordinators which runners they still know");
  does(
    addSelectors(verify.addOption(configOption().env("CONFIG_FILE"))).addOption(
      toggle("--delete", "drop the entries that are not known any more"),
    ),
    async (values, context) => (await import("../commands/verify.ts")).verifyCommand(values, context),
  );
  const unregister = program.command("unregister").description("give runners' tokens back and drop their entries");
  does(
    addSelectors(unregister.addOption(configOption().env("CONFIG_FILE"))).addOption(
      toggle("--all-runners", "all of them"),
    ),
    async (values, context) => (await import("../commands/unregister.ts")).unregisterCommand(values, context),
  );
  const resetToken = program
    .command("reset-token")
    .description("exchange runners' tokens for new ones at GitLab; done by itself before they expire, too");
  does(
    resetToken
      .addOption(configOption().env("CONFIG_FILE"))
      .addOption(new Option("-n, --name <name>", "the runner of this name"))
      .addOption(new Option("-u, --url <url>", "with --id: the runner at this coordinator").env("CI_SERVER_URL"))
      .addOption(new Option("-i, --id <number>", "with --url: the coordinator's number of the runner"))
      .addOption(toggle("--all-runners", "all of them"))
      .addOption(new Option("--pat <token>", "personal access token that may do it; the entry needs its id then")),
    async (values, context) => (await import("../commands/reset-token.ts")).resetTokenCommand(values, context),
  );
  does(addRunCommand(program), async (values, context) =>
    (await import("./run.ts")).runAgent(values, context, logSettings(values)),
  );
  does(addRunSingleCommand(program, flagged), async (values, context) =>
    (await import("./run.ts")).runSingle(values, context, logSettings(values)),
  );
  const exec = addExecFlags(
    program
      .command("exec")
      .description("run the pipeline of the working directory here, or some of its jobs; nothing has to be pushed")
      .argument("[jobs...]", "names of jobs; without any, the whole pipeline, stage by stage"),
    flagged.words,
  );
  does(exec, async (values, context) => {
    const { args } = exec;
    const flags = flagsOfExec(exec, values, args, executors.words);
    return (await import("./exec.ts")).runExec(args, flags, context, logSettings(values));
  });
  const demo = program
    .command("demo")
    .description("show it all on this machine: a coordinator, a runner, a pipeline; nothing is left behind")
    .addOption(toggle("--keep", "leave the directory with configuration, sources and logs"));
  does(demo, async (values, context) => (await import("../commands/demo.ts")).demoCommand(values, context));
  for (const name of CONTROL_COMMANDS) {
    const command = addControlCommand(program, name);
    doesHere(command, async (values, context) => {
      const { control } = await import("./control.ts");
      return await control(name, command.args, values, context);
    });
  }
  const lint = program
    .command("lint")
    .description("check a configuration file, or a CI file (.gitlab-ci.yml), and run nothing; exit status 1 for errors")
    .argument("[file]", "default: that of --config")
    .addOption(configOption().env("CONFIG_FILE"))
    .addOption(toggle("--strict", "warnings are errors"))
    .addOption(toggle("--offline", "of a CI file: fetch no included files"))
    .addOption(toggle("--json", "print JSON"));
  does(lint, async (values, context) =>
    (await import("../commands/doctor/lint.ts")).lintCommand(lint.args[0], values, context),
  );
  const doctor = program
    .command("doctor")
    .description(
      "look for what is wrong: configuration, coordinators, this machine, engines; exit status 1 warnings, 2 errors",
    )
    .addOption(configOption().env("CONFIG_FILE"))
    .addOption(new Option("--selftest [runner]", "run small jobs by the executor of this entry, or of each"))
    .addOption(toggle("--json", "print JSON"));
  does(doctor, async (values, context) => (await import("./doctor.ts")).runDoctor(values, context));
  for (const action of SERVICE_ACTIONS) {
    does(addServiceCommand(program, action), async (values, context) => {
      const { serviceCommand } = await import("../commands/service/command.ts");
      const { findOwnProgram } = await import("../../executors/shell/launch/own-program.ts");
      const place = { platform: process.platform, program: findOwnProgram(process.execPath, process.argv[1]) };
      return serviceCommand(action, values, context, place);
    });
  }
  // What service managers call once the runner has stopped.
  const endJobs = program
    .command(END_JOBS_COMMAND, { hidden: true })
    .addOption(configOption().env("CONFIG_FILE"))
    .addOption(new Option("--unit <name>", "of systemd"))
    .addOption(toggle("--user-service", "the unit is of this user"));
  does(endJobs, async (values, context) => (await import("./end-jobs.ts")).runEndJobs(values, context));
  const completion = program
    .command("completion")
    .description("print completions for a shell; see its first lines for how to use them")
    .argument("<shell>", "bash, zsh or fish");
  doesHere(completion, async (_, context) => {
    const { completionScript } = await import("../commands/completion/completion.ts");
    const { describeProgram } = await import("../commands/completion/describe.ts");
    const known = { executor: executors.names, "log-level": LOG_LEVELS, "log-format": LOG_FORMATS };
    context.print(completionScript(completion.args[0] ?? "", describeProgram(program, known)).trimEnd());
  });
  const schema = program
    .command("schema")
    .description("print a JSON schema for editors: gitlab-ci, of the .gitlab-ci.yml that exec reads")
    .argument("<name>", "gitlab-ci");
  doesHere(schema, async (_, context) =>
    (await import("../commands/schema.ts")).schemaCommand(schema.args[0] ?? "", context),
  );
  // The shell executor's second process where jobs run as another user: not for people.
  program.command(FILES_COMMAND, { hidden: true }).action(async () => {
    const { serveFiles } = await import("../../executors/shell/files/server.ts");
    process.exit(await serveFiles(process));
  });
  return program;
}
