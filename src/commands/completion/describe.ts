import type { Command, Option } from "commander";

/** What may follow a flag. `values`: one of few words. */
type Follows =
  | { readonly kind: "nothing" | "text" | "file" | "directory" }
  | { readonly kind: "values"; readonly values: readonly string[] };

export interface FlagShape {
  /** The flag's names with dashes: `-c`, `--config`. */
  readonly names: readonly string[];
  readonly description: string;
  readonly follows: Follows;
}

export interface CommandShape {
  readonly name: string;
  readonly description: string;
  /** The command's own flags, then those of the program. */
  readonly flags: readonly FlagShape[];
  /** Words that may stand beside the flags. */
  readonly words: readonly string[];
}

export interface ProgramShape {
  readonly name: string;
  readonly flags: readonly FlagShape[];
  readonly commands: readonly CommandShape[];
}

/**
 * The commands and flags as help shows them: what is hidden there is not completed either.
 * @param known flag without dashes → the words that it takes
 */
export function describeProgram(program: Command, known: Readonly<Record<string, readonly string[]>>): ProgramShape {
  const help = program.createHelp();
  const flagsOf = (command: Command): FlagShape[] =>
    help.visibleOptions(command).map((option) => describeFlag(option, known));
  const flags = flagsOf(program);
  const commands = help.visibleCommands(program).map((command): CommandShape => {
    const own = flagsOf(command);
    const taken = new Set(own.flatMap(({ names }) => names));
    const global = flags
      .map((flag) => ({ ...flag, names: flag.names.filter((name) => !taken.has(name)) }))
      .filter(({ names }) => names.length > 0 && !names.includes("--version"));
    const isHelp = command.name() === "help";
    return {
      name: command.name(),
      description: command.description(),
      flags: isHelp ? [] : [...own, ...global],
      words: isHelp ? help.visibleCommands(program).map((one) => one.name()) : wordsOf(command),
    };
  });
  return { name: program.name(), flags, commands };
}

/** An argument described as "a, b or c" takes these words. */
function wordsOf(command: Command): string[] {
  return command.registeredArguments.flatMap(({ description }) =>
    /^[\w-]+(?:, [\w-]+)* or [\w-]+$/.test(description) ? description.split(/, | or /) : [],
  );
}

function describeFlag(option: Option, known: Readonly<Record<string, readonly string[]>>): FlagShape {
  const names = [option.short, option.long].flatMap((name) => name ?? []);
  return { names, description: option.description, follows: followsOf(option, known) };
}

function followsOf(option: Option, known: Readonly<Record<string, readonly string[]>>): Follows {
  // `--flag [boolean]` takes its value after "=" only.
  if (!option.required) return { kind: "nothing" };
  const name = (option.long ?? "").replace(/^--/, "");
  const values = Object.hasOwn(known, name) ? known[name] : undefined;
  if (values !== undefined) return { kind: "values", values };
  if (/<file>/.test(option.flags) || /-file$/.test(name)) return { kind: "file" };
  if (/<dir>/.test(option.flags) || /-(?:dir|directory)$/.test(name)) return { kind: "directory" };
  return { kind: "text" };
}
