import type { CommandShape, FlagShape, ProgramShape } from "./describe.ts";

/** Works with bash 3.2 and newer and needs no other package. */
export function bashCompletion({ name, flags, commands }: ProgramShape): string {
  const fn = `_${name.replaceAll("-", "_")}`;
  const withValue = flags.filter(({ follows }) => follows.kind !== "nothing").flatMap(({ names }) => names);
  return `# bash completion for ${name}: source it, or put it into /usr/share/bash-completion/completions/${name}
${fn}_from() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen "$@" -- "$cur"))
}
${fn}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} command="" i
  # "--flag=value" arrives as three words.
  if [ "$cur" = "=" ]; then
    cur=""
  elif [ "$prev" = "=" ]; then
    prev=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      ${[...withValue, "="].join(" | ")}) i=$((i + 1)) ;;
      -*) ;;
      *) command=\${COMP_WORDS[i]}; break ;;
    esac
  done
  case $command in
${commands.map((command) => caseOf(fn, command)).join("\n")}
    "")
${valuesOf(fn, flags)}
      ${fn}_from -W $'${[...flags.flatMap(({ names }) => names), ...commands.map((one) => one.name)].join("\\n")}'
      ;;
  esac
}
complete -F ${fn} ${name}
`;
}

function caseOf(fn: string, { name, flags, words }: CommandShape): string {
  return `    ${name})
${valuesOf(fn, flags)}
      ${fn}_from -W $'${[...flags.flatMap(({ names }) => names), ...words].join("\\n")}'
      ;;`;
}

function valuesOf(fn: string, flags: readonly FlagShape[]): string {
  const lines = flags.flatMap(({ names, follows }) =>
    follows.kind === "nothing" ? [] : [`        ${names.join(" | ")}) ${offer(fn, follows)}return ;;`],
  );
  return lines.length === 0 ? "" : `      case $prev in\n${lines.join("\n")}\n      esac`;
}

function offer(fn: string, follows: FlagShape["follows"]): string {
  switch (follows.kind) {
    case "file":
      return `compopt -o filenames 2>/dev/null; ${fn}_from -f; `;
    case "directory":
      return `compopt -o filenames 2>/dev/null; ${fn}_from -d; `;
    case "values":
      return `${fn}_from -W $'${follows.values.join("\\n")}'; `;
    default:
      return "";
  }
}
