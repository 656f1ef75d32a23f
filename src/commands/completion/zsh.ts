import type { CommandShape, FlagShape, ProgramShape } from "./describe.ts";

/** A script for a directory of `fpath`, as `_alloy-runner`, or to be sourced after `compinit`. */
export function zshCompletion({ name, flags, commands }: ProgramShape): string {
  const fn = `_${name}`;
  return `#compdef ${name}
# zsh completion for ${name}: put it into a directory of $fpath as ${fn}, or source it after compinit
${fn}() {
  local curcontext=$curcontext context state state_descr line
  typeset -A opt_args
  local -a commands
  commands=(
${commands.map((command) => `    ${quote(`${command.name.replaceAll(":", "\\:")}:${command.description}`)}`).join("\n")}
  )
  _arguments -C \\
${flags.map((flag) => `    ${specOf(flag)} \\`).join("\n")}
    '1:command:->command' \\
    '*::argument:->argument'
  case $state in
    command) _describe -t commands command commands ;;
    argument)
      case $words[1] in
${commands.map(caseOf).join("\n")}
      esac
      ;;
  esac
}
if [ "$funcstack[1]" = ${quote(fn)} ]; then
  ${fn} "$@"
else
  compdef ${fn} ${name}
fi
`;
}

function caseOf({ name, flags, words }: CommandShape): string {
  const specs = flags.map((flag) => ` \\\n            ${specOf(flag)}`).join("");
  const word = words.length === 0 ? "" : ` \\\n            ${quote(`1:word:(${words.join(" ")})`)}`;
  return `        ${name})\n          _arguments${specs}${word}\n          ;;`;
}

/** `'(-c --config)'{-c,--config}'[what it is]:value:_files'` */
function specOf({ names, description, follows }: FlagShape): string {
  const text = `[${description.replaceAll("\\", "\\\\").replaceAll("[", "\\[").replaceAll("]", "\\]")}]`;
  const value =
    follows.kind === "nothing"
      ? ""
      : follows.kind === "file"
        ? ":file:_files"
        : follows.kind === "directory"
          ? ":directory:_files -/"
          : follows.kind === "values"
            ? `:value:(${follows.values.join(" ")})`
            : ":value: ";
  const [only] = names;
  if (names.length === 1 && only !== undefined) return quote(`${only}${text}${value}`);
  return `${quote(`(${names.join(" ")})`)}{${names.join(",")}}${quote(`${text}${value}`)}`;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
