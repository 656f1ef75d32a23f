import type { Writable } from "node:stream";
import { type Command, CommanderError } from "commander";
import type { CommandContext, LocalContext } from "../commands/context.ts";
import { logSettings } from "../commands/log-options.ts";
import { type FlagValues, textOf } from "../commands/register/runner-flags.ts";
import { CommandError, ConfigError, describeError } from "../errors.ts";
import type { ExecutorCatalog } from "../executor/executor.ts";
import { printableLines } from "../local/report/text-width.ts";

/** What a command does with its flags. A number is the exit status; anything else is 0. */
export type Action = (values: FlagValues, context: CommandContext) => Promise<unknown>;
export type LocalAction = (values: FlagValues, context: LocalContext) => Promise<unknown>;

/** What commands are given besides their flags. */
export interface Surroundings {
  readonly executors: ExecutorCatalog;
  readonly output: Writable;
}

/** Commands that tell GitLab of this machine, besides those that run. */
const KEEP_ID: ReadonlySet<string> = new Set(["register", "verify", "unregister", "reset-token"]);

/** Runs one command that may ask coordinators. */
export async function perform(command: Command, around: Surroundings, action: Action): Promise<void> {
  await performHere(command, around, async (values, local) => {
    const keepsId = isWork(command) || KEEP_ID.has(command.name());
    const { createContext } = await import("./context.ts");
    const context = await createContext(local, { config: textOf(values, "config"), keepsId });
    const status = await action(values, context);
    await context.coordinator.connections.close();
    return status;
  });
}

function isWork(command: Command): boolean {
  return command.name().startsWith("run");
}

/**
 * Runs one command and sets the process's exit status. `run` and `exec` have signals of their own; for all others Ctrl-C ends it. What
 * speaks to coordinators is not loaded, which is most of what a command's start takes.
 */
export async function performHere(
  command: Command,
  { executors, output }: Surroundings,
  action: LocalAction,
): Promise<void> {
  const values: FlagValues = command.optsWithGlobals();
  logSettings(values);
  const works = isWork(command);
  if (works && process.pid === 1) await leavePlace();
  const stop = new AbortController();
  const context: LocalContext = {
    env: process.env,
    cwd: process.cwd(),
    uid: process.getuid?.(),
    catalog: executors,
    output,
    print: (text) => void output.write(`${text}\n`),
    say: (text) => void process.stderr.write(`${text}\n`),
    signal: stop.signal,
  };
  const ownsSignals = works || command.name() === "exec";
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stop.signal.aborted) process.exit(1);
    stop.abort(new CommandError(`stopped by ${signal}`));
  };
  const signals = ownsSignals ? [] : (["SIGINT", "SIGTERM"] as const);
  for (const signal of signals) process.on(signal, onSignal);
  const status = await action(values, context);
  // What is left to do is to print, which one signal ends.
  for (const signal of signals) process.off(signal, onSignal);
  if (typeof status === "number") process.exitCode = status;
}

async function leavePlace(): Promise<void> {
  const { findOwnProgram } = await import("../../executors/shell/launch/own-program.ts");
  const { leaveFirstPlace } = await import("./first-process.ts");
  leaveFirstPlace([...findOwnProgram(process.execPath, process.argv[1]), ...process.argv.slice(2)]);
}

/** Says what went wrong, once, and how it is to be understood by who called. @returns the exit status */
export function report(error: unknown): number {
  // Commander has said it already, on the right stream.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 1;
  if (error instanceof CommandError || error instanceof ConfigError) {
    process.stderr.write(`alloy-runner: ${printableLines(error.message)}\n`);
    return error instanceof CommandError ? error.exitCode : 1;
  }
  process.stderr.write(`alloy-runner: something unexpected went wrong: ${printableLines(describeError(error))}\n`);
  if (process.env.DEBUG || process.argv.includes("--debug"))
    process.stderr.write(`${error instanceof Error ? error.stack : ""}\n`);
  else process.stderr.write("Run it again with --debug for details, and please report it\n");
  return 1;
}
