import { type Command, Option } from "commander";
import { CommandError } from "../errors.ts";
import type { LogFormat, LogLevel } from "../log.ts";
import type { FlagValues } from "./runner-flags.ts";

/** What the command line says of the log; it wins over the configuration. */
export interface LogSettings {
  readonly level: LogLevel | undefined;
  readonly format: LogFormat | undefined;
}

export const LOG_LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error", "fatal"];
/** The Go runner's other names. */
const LEVEL_ALIASES: Readonly<Record<string, LogLevel>> = { warning: "warn", panic: "fatal" };
export const LOG_FORMATS: readonly LogFormat[] = ["text", "json"];

/** The log's global flags. */
export function addLogFlags(program: Command): Command {
  return program
    .addOption(new Option("--debug", "log everything, the same as --log-level debug"))
    .addOption(new Option("-l, --log-level <level>", `least severe lines to log: ${LOG_LEVELS.join(", ")}`))
    .addOption(new Option("--log-format <format>", "of the log: text or json").env("LOG_FORMAT"));
}

/** @throws {CommandError} a level or a format that there is not */
export function logSettings(values: FlagValues): LogSettings {
  const word = values.logLevel ?? (values.debug === true ? "debug" : undefined);
  const level = LOG_LEVELS.find((one) => one === word) ?? (typeof word === "string" ? LEVEL_ALIASES[word] : undefined);
  if (word !== undefined && level === undefined)
    throw new CommandError(`--log-level is one of ${LOG_LEVELS.join(", ")}, not "${word}"`);
  const format = LOG_FORMATS.find((one) => one === values.logFormat);
  if (values.logFormat !== undefined && format === undefined && values.logFormat !== "runner") {
    throw new CommandError(`--log-format is text or json, not "${values.logFormat}"`);
  }
  return { level, format };
}
