import "./no-debug-door.ts";
import "./quiet-runtime.ts";
import { Command, CommanderError, Option } from "commander";
import { executors } from "../executors/index.ts";
import { normalizeArguments } from "./commands/arguments.ts";
import type { CommandContext } from "./commands/context.ts";
import { addExecFlags, flagsOfExec } from "./commands/exec-flags.ts";
import { addRunnerFlags, addSelectors, configOption, toggle } from "./commands/options.ts";
import type { FlagValues } from "./commands/runner-flags.ts";
import { addServiceCommand, SERVICE_ACTIONS } from "./commands/service/flags.ts";
import { CommandError, ConfigError, describeError } from "./errors.ts";
import type { LogFormat, LogLevel } from "./log.ts";
import { revision, runtime, version } from "./version.ts";

/**
 * The composition root: flags → commands, and what those need. Whatever a command does is loaded when it is called, so that
 * `--version` and `list` start at once.
 */

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error", "fatal"];
/** The Go runner's other names. */
const LEVEL_ALIASES: Readonly<Record<string, LogLevel>> = { warning: "warn", panic: "fatal" };
const FORMATS: readonly LogFormat[] = ["text", "json"];

function createProgram(): Command {
  const program = new Command("alloy-runner")
    .description("Runs CI jobs for an AlloyCI or GitLab coordinator.")
    .version(versionText(), "-v, --version", "print version, revision, runtime and platform")
    .helpOption("-h, --help", "show this help, or that of a command")
    .addOption(new Option("--debug", "log everything, the same as --log-level debug"))
    .addOption(new Option("-l, --log-level <level>", `least severe lines to log: ${LEVELS.join(", ")}`))
    .addOption(new Option("--log-format <format>", "of the log: text or json").env("LOG_FORMAT"))
    .showSuggestionAfterError()
    .enablePositionalOptions(false)
    .exitOverride();

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
    .addOption(
      toggle("--leave-runner", "keep the registration even if the entry cannot be saved", "REGISTER_LEAVE_RUNNER"),
    )
    .addOption(new Option("--executor <name>", `where jobs run: ${executors.names.join(", ")}`).env("RUNNER_EXECUTOR"));
  addRunnerFlags(register).action((_, command: Command) =>
    perform(command, async (values, context) => {
      const { registerCommand } = await import("./commands/register.ts");
      const { askLines, askTerminal } = await import("./commands/ask.ts");
      const named =
        values.description === undefined || values.name !== undefined
          ? values
          : { ...values, name: values.description };
      const ask = values.nonInteractive === true ? null : process.stdin.isTTY ? await askTerminal() : askLines();
      try {
        await registerCommand(named, ask, context);
      } finally {
        ask?.close();
      }
    }),
  );

  program
    .command("list")
    .description("show the configured runners")
    .addOption(configOption().env("CONFIG_FILE"))
    .action((_, command: Command) =>
      perform(command, async (values, context) => (await import("./commands/list.ts")).listCommand(values, context)),
    );

  addSelectors(
    program
      .command("verify")
      .description("ask the coordinators which runners they still know")
      .addOption(configOption().env("CONFIG_FILE")),
  )
    .addOption(toggle("--delete", "drop the entries that are not known any more"))
    .action((_, command: Command) =>
      perform(command, async (values, context) =>
        (await import("./commands/verify.ts")).verifyCommand(values, context),
      ),
    );

  addSelectors(
    program
      .command("unregister")
      .description("give runners' tokens back and drop their entries")
      .addOption(configOption().env("CONFIG_FILE")),
  )
    .addOption(toggle("--all-runners", "all of them"))
    .action((_, command: Command) =>
      perform(command, async (values, context) =>
        (await import("./commands/unregister.ts")).unregisterCommand(values, context),
      ),
    );

  program
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
    )
    .action((_, command: Command) =>
      perform(command, async (values, context) =>
        (await import("./agent.ts")).runAgent(values, context, logSettings(values)),
      ),
    );

  const single = program
    .command("run-single")
    .description("work on jobs for one runner, given by flags or by --config with --runner")
    .addOption(new Option("-c, --config <file>", "configuration file to take --runner from"))
    .addOption(new Option("-r, --runner <name>", "entry of the configuration file"))
    .addOption(new Option("-u, --url <url>", "address of the coordinator").env("CI_SERVER_URL"))
    .addOption(new Option("-t, --token <token>", "token of the runner").env("CI_SERVER_TOKEN"))
    .addOption(new Option("--name <name>", "name of the runner").env("RUNNER_NAME"))
    .addOption(new Option("--executor <name>", `where jobs run: ${executors.names.join(", ")}`).env("RUNNER_EXECUTOR"))
    .addOption(new Option("--max-builds <number>", "jobs before exiting; 0: no limit"))
    .addOption(new Option("--wait-timeout <seconds>", "time without a job before exiting; 0: for ever"))
    .addOption(new Option("-d, --working-directory <dir>", "where builds are kept; default: the current one"))
    .addOption(new Option("--user <account>", "account that scripts of the shell executor run under"));
  addRunnerFlags(single).action((_, command: Command) =>
    perform(command, async (values, context) =>
      (await import("./agent.ts")).runSingle(values, context, logSettings(values)),
    ),
  );

  addExecFlags(
    program
      .command("exec")
      .description("run the pipeline of the working directory here, or some of its jobs; nothing has to be pushed")
      .argument("[jobs...]", "names of jobs; without any, the whole pipeline, stage by stage"),
    executors.names,
  ).action((words: string[], _, command: Command) =>
    perform(command, async (values, context) =>
      (await import("./exec-agent.ts")).runExec(
        words,
        flagsOfExec(command, values, words),
        context,
        logSettings(values),
      ),
    ),
  );

  program
    .command("demo")
    .description("show it all on this machine: a coordinator, a runner, a pipeline; nothing is left behind")
    .addOption(toggle("--keep", "leave the directory with configuration, sources and logs"))
    .action((_, command: Command) =>
      perform(command, async (values, context) => (await import("./commands/demo.ts")).demoCommand(values, context)),
    );

  for (const action of SERVICE_ACTIONS) {
    addServiceCommand(program, action).action((_, command: Command) =>
      perform(command, async (values, context) => {
        const { serviceCommand } = await import("./commands/service/command.ts");
        const { findOwnProgram } = await import("../executors/shell/own-program.ts");
        const place = { platform: process.platform, program: findOwnProgram(process.execPath, process.argv[1]) };
        return serviceCommand(action, values, context, place);
      }),
    );
  }

  program
    .command("completion")
    .description("print completions for a shell; see its first lines for how to use them")
    .argument("<shell>", "bash, zsh or fish")
    .action((shell: string, _, command: Command) =>
      perform(command, async (_values, context) => {
        const { completionScript } = await import("./commands/completion/completion.ts");
        const { describeProgram } = await import("./commands/completion/describe.ts");
        const known = { executor: executors.names, "log-level": LEVELS, "log-format": FORMATS };
        context.print(completionScript(shell, describeProgram(program, known)).trimEnd());
      }),
    );

  // The shell executor's second process where jobs run as another user: not for people.
  program.command(FILES_COMMAND, { hidden: true }).action(async () => {
    const { serveFiles } = await import("../executors/shell/files-server.ts");
    process.exit(await serveFiles(process));
  });

  return program;
}

/** Named here, too, so that nothing of it is loaded for other commands. */
const FILES_COMMAND = "internal-files";

function versionText(): string {
  return `alloy-runner ${version}\nrevision ${revision}\nruntime ${runtime}\nplatform ${process.platform}/${process.arch}`;
}

function logSettings(values: FlagValues): { level: LogLevel | undefined; format: LogFormat | undefined } {
  const word = values.logLevel ?? (values.debug === true ? "debug" : undefined);
  const level = LEVELS.find((one) => one === word) ?? (typeof word === "string" ? LEVEL_ALIASES[word] : undefined);
  if (word !== undefined && level === undefined)
    throw new CommandError(`--log-level is one of ${LEVELS.join(", ")}, not "${word}"`);
  const format = FORMATS.find((one) => one === values.logFormat);
  if (values.logFormat !== undefined && format === undefined && values.logFormat !== "runner") {
    throw new CommandError(`--log-format is text or json, not "${values.logFormat}"`);
  }
  return { level, format };
}

type Action = (values: FlagValues, context: CommandContext) => Promise<unknown>;

/** Runs one command and ends the process with its status. `run` has signals of its own; for all others Ctrl-C ends it. */
async function perform(command: Command, action: Action): Promise<void> {
  const values: FlagValues = command.optsWithGlobals();
  logSettings(values);
  const works = command.name().startsWith("run");
  if (works && process.pid === 1) await leavePlace();
  const stop = new AbortController();
  const { createContext } = await import("./process-context.ts");
  const context = await createContext(executors, stop.signal);
  const ownsSignals = works || command.name() === "exec";
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stop.signal.aborted) process.exit(1);
    stop.abort(new CommandError(`stopped by ${signal}`));
  };
  if (!ownsSignals) for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, onSignal);
  const status = await action(values, context);
  await context.coordinator.connections.close();
  process.exit(typeof status === "number" ? status : 0);
}

async function leavePlace(): Promise<void> {
  const { findOwnProgram } = await import("../executors/shell/own-program.ts");
  const { leaveFirstPlace } = await import("./first-process.ts");
  leaveFirstPlace([...findOwnProgram(process.execPath, process.argv[1]), ...process.argv.slice(2)]);
}

async function main(): Promise<void> {
  if (process.argv.length === 3 && /^(-v|--?version)$/.test(process.argv[2] ?? "")) {
    process.stdout.write(`${versionText()}\n`);
    return;
  }
  const program = createProgram();
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
    process.exit(report(error));
  }
}

/** Says what went wrong, once, and how it is to be understood by who called. */
function report(error: unknown): number {
  // Commander has said it already, on the right stream.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 1;
  if (error instanceof CommandError || error instanceof ConfigError) {
    process.stderr.write(`alloy-runner: ${error.message}\n`);
    return error instanceof CommandError ? error.exitCode : 1;
  }
  process.stderr.write(`alloy-runner: something unexpected went wrong: ${describeError(error)}\n`);
  if (process.env.DEBUG || process.argv.includes("--debug"))
    process.stderr.write(`${error instanceof Error ? error.stack : ""}\n`);
  else process.stderr.write("Run it again with --debug for details, and please report it\n");
  return 1;
}

void main();
