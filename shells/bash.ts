import type { Argv, Op, ShellName, ShellWriter, WriteOptions } from "../src/shell.ts";
import { findOpenEnd } from "./open-end.ts";
import {
  exported,
  OR_EXIT,
  quote,
  quoteAll,
  quotePath,
  REFUSED_NAMES,
  writeExportLines,
  writeFiles,
  writeOpenEnd,
  writePrint,
  writePrintSection,
  writeRemove,
  writeRemoveNamed,
  writeRepeat,
  writeTest,
} from "./posix-lines.ts";
import { toned } from "./tones.ts";

type Write = Extract<Op, { op: "write" }>;

/** Notes that the last instruction was reached. */
const MARK = "{ alloy_last=1; } 2>/dev/null";

/** Instructions → body. Knows whether the author's text may have run before, and so what a trace could show. */
function writeBody(ops: readonly Op[], xtrace: boolean): string {
  let authored = false;
  let tracing = false;
  let isLast = false;

  const quietly = (lines: string): string =>
    [
      "{ case $- in *x*) alloy_x=1 ;; *) alloy_x= ;; esac; set +x; } 2>/dev/null",
      lines,
      // Without a redirection: mksh would go on tracing to where stderr led at this moment.
      'command test -z "$alloy_x" || set -x',
    ].join("\n");
  const written = (files: readonly Write[]): string => (authored ? quietly(writeFiles(files)) : writeFiles(files));
  const list = (part: readonly Op[]): string => (part.length === 0 ? ":" : part.flatMap(step).join("\n"));
  /** Files that are written one after the other are one step. */
  const step = (op: Op, index: number, all: readonly Op[]): string | readonly string[] => {
    if (op.op !== "write") return one(op);
    if (all[index - 1]?.op === "write") return [];
    const end = all.findIndex((next, at) => at > index && next.op !== "write");
    return written(all.slice(index, end < 0 ? undefined : end).filter((next) => next.op === "write"));
  };

  const one = (op: Op): string => {
    switch (op.op) {
      case "export":
        return authored ? quietly(exported(op)) : exported(op);
      case "unset":
        return `unset -v ${op.name}`;
      case "exportFile": {
        const lines = `${writeFiles([op])}\nexport ${op.name}=${quote(op.path)}`;
        return authored ? quietly(lines) : lines;
      }
      case "write":
        return written([op]);
      case "run":
        return `command ${quoteAll(op.argv)} ${OR_EXIT}`;
      case "source": {
        const text = op.text.replaceAll("\0", "");
        const open = findOpenEnd(text);
        const check = open === undefined ? [] : [writeOpenEnd(text, open)];
        const start = [
          ...check.map((lines) => (authored ? quietly(lines) : lines)),
          ...(xtrace && !tracing ? ["set -x"] : []),
        ];
        authored = true;
        tracing = xtrace;
        // A backslash at the end would join the next line, which is ours.
        const lines = [...start, `${text}${text.endsWith("\\") ? "\n" : ""}`];
        // errexit does not count a failure before `&&`, and the runner's next line would be what follows it.
        if (!isLast && /&&\s*(?:#.*)?$/.test(text)) lines.push(`: ${OR_EXIT}`);
        return lines.join("\n");
      }
      case "cd":
        return `command cd ${quotePath(op.path)} ${OR_EXIT}`;
      case "mkdir":
        // A directory that is there costs no process.
        return `command test -d ${quotePath(op.path)} || command mkdir -p ${quotePath(op.path)} ${OR_EXIT}`;
      case "remove":
        return writeRemove(op.path);
      case "removeNamed":
        return writeRemoveNamed(op.path, op.names);
      case "print":
        return authored && xtrace ? quietly(writePrint(op.text, op.tone)) : writePrint(op.text, op.tone);
      case "exportLines":
        return authored ? quietly(writeExportLines(op.name, op.path)) : writeExportLines(op.name, op.path);
      case "printSection": {
        const lines = writePrintSection(op.section, toned(op.text, op.tone));
        return authored && xtrace ? quietly(lines) : lines;
      }
      case "when": {
        const before = { authored, tracing };
        const then = list(op.then);
        const after = { authored, tracing };
        ({ authored, tracing } = before);
        const otherwise = list(op.else ?? []);
        authored ||= after.authored;
        tracing &&= after.tracing;
        return `if ${writeTest(op.test)}; then\n${then}\nelse\n${otherwise}\nfi`;
      }
      case "repeat": {
        const before = tracing;
        const body = list(op.body);
        tracing = before;
        return writeRepeat(op.attempts, op.pauseSeconds, body);
      }
      case "exit":
        return `command exit ${op.status}`;
    }
  };
  const before = list(ops.slice(0, -1));
  const mark = authored ? [MARK] : [];
  isLast = true;
  return [before, ...mark, list(ops.slice(-1))].join("\n");
}

/**
 * The frame. Braces make the shell read all of it before any of it runs, so the proof says that nothing was eaten.
 * There is no subshell: `$$`, traps, signals and statuses are what the author expects. `eval` lets the body run without
 * the script as its stdin. errexit is off before the end, because a login shell runs `~/.bash_logout` in there.
 * The body's last line may be the author's, and nothing of ours is in reach of what it leaves open, as `&&` or a pipe: that is
 * the shell's own syntax error. A mark before the last instruction says that none of those before it took the rest for its
 * own text, as a here-document does that an alias begins: to the shell that is no failure.
 * zsh speaks POSIX only when asked; mksh has no `printf` of its own, and a program would show contents in its arguments.
 */
function writeScript(pipefail: string, ops: readonly Op[], { xtrace, proof }: WriteOptions): string {
  const body = writeBody(ops, xtrace);
  const put = [
    'alloy_put() { command printf %s "$1"; }',
    'case ${KSH_VERSION-} in *MIRBSD*) alloy_put() { print -rn -- "$1"; } ;; esac',
  ].join("\n");
  const marked = body.includes(MARK);
  const check = `case $alloy_status\${alloy_last-} in 0)
command printf '%s\\n' 'The script ended before its last line: is there a here-document without its end?' >&2 2>/dev/null || :
alloy_status=1
esac
`;
  return `case \${ZSH_VERSION-} in ?*) emulate sh 2>/dev/null || : ;; esac
{
${pipefail}
set -e +C
command printf '%s\\n' ${quote(proof)}
${marked ? "alloy_last=\n" : ""}eval ${quote(body.includes("alloy_put") ? `${put}\n${body}` : body)} </dev/null
{ alloy_status=$?; set +ex; } 2>/dev/null
${marked ? check : ""}command exit "$alloy_status"
}
`;
}

/** @param pipefail has a pipe fail with any of its programs, where the shell can */
function posixWriter(name: ShellName, login: Argv, plain: Argv, pipefail: string): ShellWriter {
  return {
    name,
    write: (ops, options) => writeScript(pipefail, ops, options),
    command: (options) => ({ argv: options.login ? login : plain, scriptOn: "stdin", extension: ".sh" }),
    acceptsName: (variable) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(variable) && !REFUSED_NAMES.has(variable),
  };
}

/** bash ≥ 3.2. */
export const bash: ShellWriter = posixWriter("bash", ["bash", "--login"], ["bash"], "set -o pipefail");

/** Not every `sh` has the option, and to set one that it does not know would end the script. */
const PIPEFAIL_IF_KNOWN = "case $(set -o) in *pipefail*) set -o pipefail ;; esac";

/** Whatever `sh` is: dash, busybox, ksh, mksh, zsh, bash. Only `-l` is understood by all of them. */
export const sh: ShellWriter = posixWriter("sh", ["sh", "-l"], ["sh"], PIPEFAIL_IF_KNOWN);
