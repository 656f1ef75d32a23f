import { type Command, Option } from "commander";
import { CommandError } from "../errors.ts";
import type { EntryFlag, ExecutorWords } from "../executor/words.ts";
import { parseBoolean } from "./arguments.ts";
import { runnerFlags } from "./register/runner-flags.ts";

/** Options that several commands have. */

export function configOption(): Option {
  return new Option(
    "-c, --config <file>",
    "configuration file; default: /etc/alloy-runner/config.toml as root, else ~/.alloy-runner/config.toml",
  );
}

/** A switch in Go's fashion: `--flag`, `--flag=true|false`, or an environment variable. An empty variable says nothing. */
export function toggle(flags: string, description: string, env?: string): Option {
  const name = /--([\w-]+)/.exec(flags)?.[1] ?? flags;
  const option = new Option(`${flags} [boolean]`, description).preset(true).argParser((text: unknown) => {
    if (typeof text === "boolean") return text;
    if (text === "") return undefined;
    const value = parseBoolean(String(text));
    if (value === undefined) {
      throw new CommandError(`--${name}${env ? ` (${env})` : ""} is true or false, not "${text}"`);
    }
    return value;
  });
  return env === undefined ? option : option.env(env);
}

/** Each use of the option adds one. */
export function collect(text: string, before: unknown): unknown[] {
  return [...(Array.isArray(before) ? before : []), text];
}

/** Those that fill a `[[runners]]` entry, each under its heading; the command's own stand above them as "General". */
export function addRunnerFlags(
  command: Command,
  executors: readonly ExecutorWords[],
  wanted: (flag: string) => boolean = () => true,
): Command {
  for (const option of command.options) option.helpGroup("General:");
  command.addHelpOption(new Option("-h, --help", "show this help").helpGroup("General:"));
  for (const { flag, kind, help, heading, ...variables } of runnerFlags(executors)) {
    if (!wanted(flag)) continue;
    const { env, other } = variableOf(variables);
    const text = other === undefined ? help : `${help}; also by ${other}`;
    const option =
      kind === "boolean"
        ? toggle(`--${flag}`, text, env)
        : new Option(`--${flag} <${kind === "integer" ? "number" : "value"}>`, text);
    if (["list", "table", "lists", "switches"].includes(kind)) option.argParser(collect);
    if (kind !== "boolean" && env !== undefined) option.env(env);
    command.addOption(option.helpGroup(`${heading}:`));
  }
  return command;
}

/** Commander reads one variable per option: of two names that which is set, and the newer one of both. */
function variableOf({ env, olderEnv }: Pick<EntryFlag, "env" | "olderEnv">): { env?: string; other?: string } {
  if (env === undefined || olderEnv === undefined) return env === undefined ? {} : { env };
  const isSet = (name: string): boolean => (process.env[name] ?? "") !== "";
  return isSet(olderEnv) && !isSet(env) ? { env: olderEnv, other: env } : { env, other: olderEnv };
}

/** Which runners of the configuration are meant. */
export function addSelectors(command: Command): Command {
  return command
    .addOption(new Option("-n, --name <name>", "the runner of this name"))
    .addOption(new Option("-u, --url <url>", "runners of this coordinator"))
    .addOption(new Option("-t, --token <token>", "the runner with this token"))
    .addOption(new Option("--tls-ca-file <file>").hideHelp())
    .addOption(new Option("--tls-cert-file <file>").hideHelp())
    .addOption(new Option("--tls-key-file <file>").hideHelp());
}
