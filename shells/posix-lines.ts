import type { Argv, Op, Test, Tone } from "../src/shell.ts";
import type { OpenEnd } from "./open-end.ts";
import { toned } from "./tones.ts";

/**
 * Longest piece of a file's content in one word, in UTF-16 units: at most 96 KB of UTF-8, so that it would fit into an
 * argument (128 KiB on Linux) in a shell whose `printf` is a program.
 */
const PIECE_LENGTH = 32_000;

/** Read-only in bash, ksh or zsh, or taken for a number there: exporting them ends the script or does something else. */
export const REFUSED_NAMES: ReadonlySet<string> = new Set([
  "BASHOPTS",
  "BASHPID",
  "BASH_VERSINFO",
  "EUID",
  "LINENO",
  "OPTIND",
  "PPID",
  "RANDOM",
  "SECONDS",
  "SHELLOPTS",
  "UID",
]);

/** `text` as one word, literal. No shell can hold NUL in a word, so it is left out. */
export function quote(text: string): string {
  return `'${text.replaceAll("\0", "").replaceAll("'", "'\\''")}'`;
}

/** A path that no program takes for an option or, in `cd`, for a place on CDPATH. */
export function quotePath(path: string): string {
  return quote(path.startsWith("/") ? path : `./${path}`);
}

export function quoteAll(argv: Argv): string {
  return argv.map(quote).join(" ");
}

/** Directory of `path`; `.` where there is none. */
function parentOf(path: string): string {
  const end = path.replace(/\/+$/, "").lastIndexOf("/");
  return end < 0 ? "." : end === 0 ? "/" : path.slice(0, end);
}

/** `text` in pieces that no surrogate pair is torn between. */
function pieces(text: string): string[] {
  const found: string[] = [];
  for (let start = 0; start < text.length; ) {
    let end = Math.min(start + PIECE_LENGTH, text.length);
    const last = text.charCodeAt(end - 1);
    if (end < text.length && last >= 0xd800 && last <= 0xdbff) end--;
    found.push(text.slice(start, end));
    start = end;
  }
  return found;
}

/** The runner's own instructions end the script even where the author has switched errexit off. */
export const OR_EXIT = '|| command exit "$?"';

/** There is something of this name, be it a link that leads nowhere. */
function exists(quotedPath: string): string {
  return `{ command test -e ${quotedPath} || command test -L ${quotedPath}; }`;
}

export function writeTest(test: Test): string {
  switch (test.test) {
    case "directory":
      return `command test -d ${quotePath(test.path)}`;
    case "file":
      return `command test -f ${quotePath(test.path)}`;
    case "symlink":
      return `command test -L ${quotePath(test.path)}`;
    case "exists":
      return exists(quotePath(test.path));
    case "program":
      return `command -v ${quote(test.name)} >/dev/null 2>&1`;
    case "succeeds":
      return `command ${quoteAll(test.argv)} >/dev/null 2>&1`;
    case "nested": {
      const [place, name] = [test.path, test.name].map((text) => text.replace(/[\\*?[\]]/g, "\\$&"));
      const own = `-path ${quotePath(`${place}/${name}`)} -prune`;
      // What cannot be looked through may hold one.
      return `! command find ${quotePath(test.path)} ${own} -o -name ${quote(name ?? "")} -type d -exec false {} +`;
    }
    case "not":
      // Braces: ksh and zsh refuse `! ! test`.
      return `! { ${writeTest(test.of)}; }`;
  }
}

/**
 * One process in the good case. Otherwise directories get their permissions back, and a tree with a mount in it stays:
 * rm of GNU knows `--one-file-system` (`rm -f` without operands asks for it), find of busybox and BSD knows `-xdev`;
 * not each busybox has `-delete`.
 */
export function writeRemove(path: string): string {
  const place = quotePath(path);
  return [
    `if ${exists(place)}; then`,
    `command rm -rf --one-file-system ${place} 2>/dev/null || {`,
    `command find ${place} -xdev -type d ! -perm -700 -exec chmod u+rwx {} \\; 2>/dev/null || :`,
    "if command rm -f --one-file-system 2>/dev/null; then",
    `command rm -rf --one-file-system ${place}`,
    `else command find ${place} -xdev ! -type d -exec rm -f {} + &&`,
    `{ ! command test -d ${place} || command find ${place} -xdev -depth -type d -exec rmdir {} \\; ; } &&`,
    `! ${exists(place)}; fi`,
    `} ${OR_EXIT}`,
    "fi",
  ].join("\n");
}

/** No brackets around `-exec … +`: busybox would not run it. */
export function writeRemoveNamed(path: string, names: readonly string[]): string {
  if (names.length === 0) return ":";
  const place = quotePath(path);
  const patterns = names.map((name) => {
    const [star, rest] = name.startsWith("*") ? ["*", name.slice(1)] : ["", name];
    return `-name ${quote(star + rest.replace(/[\\*?[\]]/g, "\\$&"))}`;
  });
  return [
    `if command test -d ${place}; then`,
    `command find ${place} -xdev -type d ! -perm -700 -exec chmod u+rwx {} \\; -o`,
    `! -type d \\( ${patterns.join(" -o ")} \\) -exec rm -f {} + ${OR_EXIT}`,
    "fi",
  ]
    .join("\n")
    .replace("-o\n", "-o ");
}

/** What is to be in a file. */
interface Written {
  readonly path: string;
  readonly content: string;
}

/**
 * Several files at once: to learn the mask and to make what directories are missing is a process each.
 * No subshell around the content: bash shows the text of a subshell that was killed.
 * An old file goes first: it may be read-only, a link, or readable by others.
 */
export function writeFiles(files: readonly Written[]): string {
  const parents = [...new Set(files.map(({ path }) => quotePath(parentOf(path))))];
  const there = parents.map((parent) => `command test -d ${parent}`).join(" && ");
  const put = ({ path, content }: Written): string[] => {
    const place = quotePath(path);
    return [
      `{ ! ${exists(place)} || command rm -rf ${place}; } &&`,
      "{",
      ...pieces(content).map((piece) => `alloy_put ${quote(piece)} &&`),
      `:; } >| ${place}`,
    ];
  };
  return [
    "alloy_umask=$(umask)",
    `umask 077 && { { ${there}; } || command mkdir -p ${parents.join(" ")}; } &&`,
    `${files.map((file) => put(file).join("\n")).join(" &&\n")} ${OR_EXIT}`,
    'umask "$alloy_umask"',
  ].join("\n");
}

/** errexit must hold inside `body`, which it does in a subshell that is no condition; so `cd` and exports stay in there. */
export function writeRepeat(attempts: number, pauseSeconds: number, body: string): string {
  return [
    "alloy_try=1",
    "while :; do",
    "case $- in *e*) alloy_e=1 ;; *) alloy_e= ;; esac",
    "set +e",
    "( set -e",
    body,
    ")",
    "alloy_status=$?",
    'command test -z "$alloy_e" || set -e',
    'if command test "$alloy_status" -eq 0; then break; fi',
    `if command test "$alloy_try" -ge ${Math.max(1, Math.trunc(attempts))}; then command exit "$alloy_status"; fi`,
    ...(pauseSeconds > 0 ? [`command sleep ${Math.ceil(pauseSeconds)} || :`] : []),
    "alloy_try=$((alloy_try + 1))",
    "done",
  ].join("\n");
}

/** With the variable's own value where `around` leaves room for it. */
export function exported({ name, value, around = [value] }: Extract<Op, { op: "export" }>): string {
  return `export ${name}=${around.map(quote).join(`"\${${name}-}"`)}`;
}

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";

/** Lines of a file as variables. Spelt letters: what lies between `A` and `z` is the locale's business. Nothing in it is run. */
export function writeExportLines(name: string, path: string): string {
  const place = quotePath(path);
  const parent = quotePath(parentOf(path));
  return [
    `if ${exists(place)}; then :; else`,
    "alloy_umask=$(umask)",
    `umask 077 && { command test -d ${parent} || command mkdir -p ${parent} 2>/dev/null; } && : 2>/dev/null >| ${place} || :`,
    'umask "$alloy_umask"',
    "fi",
    `export ${name}=${quote(path)}`,
    // A FIFO in its place would hold the script for ever. One that is empty, as most are, costs no process.
    `if command test -f ${place} && command test -r ${place} && command test -s ${place}; then`,
    "alloy_cr=$(command printf '\\r')",
    'while IFS= read -r alloy_line || command test -n "$alloy_line"; do',
    'alloy_line=${alloy_line%"$alloy_cr"}',
    "alloy_name=${alloy_line%%=*}",
    'case $alloy_line in "$alloy_name"=*) ;; *) continue ;; esac',
    `case $alloy_name in '' | [!${LETTERS}]* | *[!${LETTERS}0123456789]* | ${[...REFUSED_NAMES].join(" | ")}) continue ;; esac`,
    'eval "export $alloy_name=\\"\\${alloy_line#*=}\\""',
    `done <${place}`,
    "fi",
  ].join("\n");
}

/** The time is the shell's: a script is written before its entries run. */
export function writePrintSection(section: string, text: string): string {
  return [
    "{ alloy_now=$(command date +%s) || alloy_now=0; } 2>/dev/null",
    `command printf 'section_start:%s:%s[hide_duration=true,collapsed=true]\\r\\033[0K%s\\nsection_end:%s:%s\\r\\033[0K\\n' "$alloy_now" ${quote(section)} ${quote(text)} "$alloy_now" ${quote(section)} 2>/dev/null || :`,
  ].join("\n");
}

/** Some output may be gone by now (`exec >&-`): that is no reason to fail. */
export function writePrint(text: string, tone: Tone): string {
  return `command printf '%s\\n' ${quote(toned(text, tone))} 2>/dev/null || :`;
}

/**
 * What stays open at the end of an entry would take our next lines for its own. Only the shell can tell whether it does: as
 * the body of a function, the text fits with what closes it and not without. Another `:` tells it from a list or a pipe that
 * goes on. Most texts come without this question: it takes a process or two.
 */
export function writeOpenEnd(text: string, { kind, closer, line }: OpenEnd): string {
  const fits = (end: string): string => `(eval ${quote(`alloy_check() {\n:\n${text}${end}\n}`)}) >/dev/null 2>&1`;
  const problem =
    kind === "quote"
      ? `A quote is not closed: ${closer}`
      : `A here-document has no end: no line is ${closer.trim().split("\n")[0]}`;
  return [
    `if ${fits("\n:")}; then :`,
    `elif ${fits(closer)}; then`,
    `command printf '%s\\n' ${quote(problem)} ${quote(line)} >&2`,
    "command exit 2",
    "fi",
  ].join("\n");
}
