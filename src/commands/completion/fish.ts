import type { FlagShape, ProgramShape } from "./describe.ts";

export function fishCompletion({ name, flags, commands }: ProgramShape): string {
  const names = commands.map((command) => command.name).join(" ");
  const none = `not __fish_seen_subcommand_from ${names}`;
  const lines = [
    `# fish completion for ${name}: put it into ~/.config/fish/completions/${name}.fish`,
    `complete -c ${name} -f`,
    ...flags.map((flag) => lineOf(name, none, flag)),
  ];
  for (const command of commands) {
    const here = `__fish_seen_subcommand_from ${command.name}`;
    lines.push(`complete -c ${name} -n ${quote(none)} -a ${command.name} -d ${quote(command.description)}`);
    lines.push(...command.flags.map((flag) => lineOf(name, here, flag)));
    if (command.words.length > 0) {
      lines.push(`complete -c ${name} -n ${quote(here)} -a ${quote(command.words.join(" "))}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function lineOf(program: string, condition: string, { names, description, follows }: FlagShape): string {
  const spelled = names
    .map((name) => (name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`))
    .join(" ");
  const value =
    follows.kind === "nothing"
      ? ""
      : follows.kind === "file"
        ? " -r -F"
        : follows.kind === "directory"
          ? " -x -a '(__fish_complete_directories)'"
          : follows.kind === "values"
            ? ` -x -a ${quote(follows.values.join(" "))}`
            : " -x";
  return `complete -c ${program} -n ${quote(condition)} ${spelled}${value} -d ${quote(description)}`;
}

function quote(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
