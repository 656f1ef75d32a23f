import type { Op, ScriptParts, ShellWriter, Test, WriteOptions } from "../src/shell.ts";
import { createParts, OWN } from "./cmd-parts.ts";
import { commandLine, windowsPath } from "./command-line.ts";
import { removeDeep } from "./powershell-prelude.ts";
import { toned } from "./tones.ts";

const STATUS = `${OWN}STATUS`;
/** Status at the end of an entry; undefined where that end was not reached. */
const END = `${OWN}END`;
/** Attributes of the path that was looked at last: `d--------`; undefined where nothing is. */
const FOUND = `${OWN}FOUND`;

/** cmd makes these up whenever they are read; a real one of that name hides what our own lines and authors rely on. */
const DYNAMIC =
  /^(?:CD|DATE|TIME|RANDOM|ERRORLEVEL|CMDEXTVERSION|CMDCMDLINE|HIGHESTNUMANODENUMBER|__CD__|__APPDIR__)$/i;

const POWERSHELL = [
  '"%SystemRoot%\\System32\\WindowsPowerShell\\v1.0\\powershell.exe"',
  "-NoProfile -NonInteractive -NoLogo -ExecutionPolicy Bypass",
].join(" ");

interface Compiled {
  readonly text: string;
  readonly parts: ScriptParts;
}

/** The author's entries are files of their own, so that a batch file that is called without `call` returns to the script. */
function compile(ops: readonly Op[], { xtrace, proof }: WriteOptions): Compiled {
  const lines: string[] = [];
  const parts = createParts();
  const { environment, literal, path, program, file } = parts;
  /** Upper case: names of variables have none. */
  const touched = new Set<string>();
  let leading = true;

  const emit = (...more: readonly string[]): void => void lines.push(...more);
  const label = (word: string): string => `alloy_${parts.next()}_${word}`;
  const RESET = "(call )";
  const check = (fail: string): readonly string[] => [`if errorlevel 1 ${fail}`, `if not errorlevel 0 ${fail}`];
  const guarded = (command: string, fail: string): void => emit(RESET, command, ...check(fail));
  const command = (argv: readonly [string, ...string[]]): string => {
    const [name, ...args] = argv;
    // What lies in the working copy is not taken for a program of the machine.
    emit(`set "NoDefaultCurrentDirectoryInExePath=1"`);
    return `${program(name)}${args.length === 0 ? "" : ` ${literal(commandLine(args))}`}`;
  };

  /** Without exclamation marks a path can come by `%NAME%`, which Wine's cmd needs in this place. */
  const look = (text: string): void => {
    const place = text.includes("!") ? path(text) : path(text).replace(/^"!(.*)!"$/, '"%$1%"');
    emit(`set "${FOUND}="`, `for %%A in (${place}) do set "${FOUND}=%%~aA"`);
  };
  const isDirectory = `"%${FOUND}:~0,1%"=="d"`;
  const test = (question: Test, no: string): void => {
    switch (question.test) {
      case "directory":
      case "file":
        look(question.path);
        emit(`if not defined ${FOUND} goto ${no}`);
        emit(`if ${question.test === "file" ? "" : "not "}${isDirectory} goto ${no}`);
        return;
      case "exists":
        look(question.path);
        emit(`if not defined ${FOUND} goto ${no}`);
        return;
      case "symlink":
        look(question.path);
        emit(`if not defined ${FOUND} goto ${no}`, `if "%${FOUND}:l=%"=="%${FOUND}%" goto ${no}`);
        return;
      case "program":
        emit(`set "${FOUND}="`);
        for (const ending of ["", ".exe", ".com", ".cmd", ".bat"]) {
          const name = literal(`${question.name}${ending}`);
          emit(`for %%A in ("${name}") do if not "%%~$PATH:A"=="" set "${FOUND}=1"`);
        }
        emit(`if not defined ${FOUND} goto ${no}`);
        return;
      case "succeeds": {
        const line = command(question.argv);
        guarded(`${line} >nul 2>&1`, `goto ${no}`);
        return;
      }
      case "nested": {
        const own = windowsPath(`${question.path}/${question.name}`);
        emit(
          `set "${FOUND}="`,
          `for /f "delims=" %%A in ('dir /s /b /ad ${path(own)} 2^>nul') do call :alloy_nested "%%A" ${path(own)}`,
        );
        emit(`if not defined ${FOUND} goto ${no}`);
        return;
      }
      case "not": {
        const yes = label("yes");
        test(question.of, yes);
        emit(`goto ${no}`, `:${yes}`);
      }
    }
  };

  /**
   * `rd` without /s removes an empty directory or a link; only what then is left is a tree. What is too deep for cmd is
   * PowerShell's: the form of a path that `rd` would need is a pattern of other files where `?` is not known in it.
   */
  const remove = (text: string, fail: string): void => {
    const [place, done, tree] = [path(text), label("gone"), label("tree")];
    look(text);
    emit(`if not defined ${FOUND} goto ${done}`, `if ${isDirectory} goto ${tree}`);
    emit(`attrib -r -s -h ${place}`, `del /f /q ${place}`, `goto ${done}_look`, `:${tree}`, `rd ${place} 2>nul`);
    look(text);
    emit(`if defined ${FOUND} rd /s /q ${place} 2>nul`);
    look(text);
    if (/^(?:[A-Za-z]:\\|\\\\)/.test(windowsPath(text))) {
      emit(`if defined ${FOUND} ${POWERSHELL} -File ${file(removeDeep, ".ps1")} ${place}`);
    }
    emit(`:${done}_look`);
    look(text);
    emit(`if not defined ${FOUND} goto ${done}`);
    say(`Cannot remove ${windowsPath(text)}`);
    emit("cmd /d /c exit 1", fail, `:${done}`);
  };
  const say = (text: string): void => emit(`type ${file(`${text}\n`)} 1>&2`);
  const write = (text: string, content: string, fail: string): void => {
    const target = windowsPath(text);
    const end = target.lastIndexOf("\\");
    if (end > 2) {
      const parent = path(target.slice(0, end));
      emit(`if not exist ${parent.slice(0, -1)}\\" md ${parent}`);
    }
    remove(text, fail);
    guarded(content === "" ? `type nul >${path(text)}` : `copy /b /y ${file(content)} ${path(text)} >nul`, fail);
  };
  const set = (op: Extract<Op, { op: "export" }>): void => {
    const key = op.name.toUpperCase();
    const first = !touched.has(key);
    touched.add(key);
    if (op.around === undefined && leading && first) environment.set(op.name, op.value.replaceAll("\0", ""));
    else {
      const value = (op.around ?? [op.value]).map((text) => literal(text.replaceAll("\0", ""))).join(`!${op.name}!`);
      emit(`set "${op.name}=${value}"`);
    }
  };

  const list = (part: readonly Op[], fail: string): void => {
    for (const op of part) {
      if (op.op !== "export" && op.op !== "exportFile" && op.op !== "unset") leading = false;
      one(op, fail);
    }
  };
  const one = (op: Op, fail: string): void => {
    switch (op.op) {
      case "export":
        set(op);
        return;
      case "unset":
        touched.add(op.name.toUpperCase());
        emit(`set "${op.name}="`);
        return;
      case "exportFile":
        write(op.path, op.content, fail);
        set({ op: "export", name: op.name, value: windowsPath(op.path) });
        return;
      case "write":
        write(op.path, op.content, fail);
        return;
      case "run":
        guarded(command(op.argv), fail);
        return;
      case "source": {
        const text = op.text.replaceAll("\0", "").replace(/\r?\n/g, "\r\n");
        const open = mayStayOpen(text);
        // The last line must not change the status that it keeps.
        // A caret at the end would join the next line, which is ours.
        const end = open ? [text.replace(/(?<!\^)((?:\^\^)*)\^$/, "$1"), `@set "${END}=%errorlevel%"`] : [text];
        const lines = [...(xtrace ? ["@echo on"] : []), ...end, ""];
        emit(`set "NoDefaultCurrentDirectoryInExePath="`, ...(open ? [`set "${END}="`] : []), RESET);
        emit(`call ${file(lines.join("\r\n"), ".cmd")}`, "@echo off", ...check(fail));
        if (open) {
          const ended = label("ended");
          emit(`if defined ${END} goto ${ended}`);
          say("The entry ended before its last line: is there a parenthesis that is not closed?");
          emit("cmd /d /c exit 1", fail, `:${ended}`);
          guarded(`cmd /d /c exit !${END}!`, fail);
        }
        return;
      }
      case "cd":
        // cmd cannot work in \\server\share, but on a drive that stands for it.
        guarded(`${windowsPath(op.path).startsWith("\\\\") ? "pushd" : "cd /d"} ${path(op.path)}`, fail);
        return;
      case "mkdir": {
        const [there, make] = [label("there"), label("make")];
        look(op.path);
        emit(`if not defined ${FOUND} goto ${make}`, `if ${isDirectory} goto ${there}`, `:${make}`);
        guarded(`md ${path(op.path)}`, fail);
        emit(`:${there}`);
        return;
      }
      case "remove":
        remove(op.path, fail);
        return;
      case "removeNamed": {
        const place = path(op.path).slice(1, -1);
        for (const name of op.names.filter((one) => !/[\\/"?]|.\*/.test(one) && one !== "")) {
          const pattern = name.startsWith("*") ? `*${literal(name.slice(1))}` : literal(name);
          emit(`del /s /f /q /a "${place}\\${pattern}" >nul 2>nul`);
        }
        return;
      }
      case "exportLines":
        // cmd would change exclamation marks in values that it reads, and GitLab has no jobs for it.
        return;
      case "printSection":
        one({ op: "print", text: op.line, tone: op.tone }, fail);
        return;
      case "print":
        emit(`type ${file(`${toned(op.text.replaceAll("\0", ""), op.tone)}\n`)}`);
        return;
      case "when": {
        const [no, end] = [label("else"), label("end")];
        test(op.test, no);
        list(op.then, fail);
        emit(`goto ${end}`, `:${no}`);
        list(op.else ?? [], fail);
        emit(`:${end}`);
        return;
      }
      case "repeat": {
        const id = label("try");
        const count = `${OWN}${id.toUpperCase()}`;
        emit(`set "${count}=1"`, `:${id}`);
        list(op.body, `goto ${id}_failed`);
        emit(`goto ${id}_done`, `:${id}_failed`, `set "${STATUS}=!errorlevel!"`);
        emit(`if !${count}! geq ${Math.max(1, Math.trunc(op.attempts))} goto ${id}_over`, `set /a ${count}+=1 >nul`);
        if (op.pauseSeconds > 0) emit(`ping -n ${Math.ceil(op.pauseSeconds) + 1} 127.0.0.1 >nul`);
        emit(`goto ${id}`, `:${id}_over`, `cmd /d /c exit !${STATUS}!`, fail, `:${id}_done`);
        return;
      }
      case "exit":
        emit(`cmd /d /c exit ${op.status}`, fail);
    }
  };

  list(ops, "goto alloy_fail");
  return { text: frame(lines, proof), parts: parts.all() };
}

/**
 * Could a block reach beyond the text? cmd leaves out what stands in a block that is not closed, and goes on as if all were
 * well. `)` closes nothing outside of a block, so that one of those may hide another that is missing.
 */
function mayStayOpen(text: string): boolean {
  let depth = 0;
  for (const [sign] of text.replace(/\^[\s\S]|"[^"\n]*"?/g, "").matchAll(/[()]/g)) {
    depth = sign === "(" ? depth + 1 : Math.max(0, depth - 1);
  }
  return depth > 0;
}

/**
 * The script begins at its end: cmd reads line by line, and a file that was cut has no such label, so nothing of it runs.
 * Delayed expansion is on for authors, too: scripts written for the Go runner rely on it.
 */
function frame(body: readonly string[], proof: string): string {
  const lines = [
    "@echo off",
    "goto alloy_begin",
    ":alloy_body",
    `echo ${proof}`,
    ...body,
    "exit /b 0",
    ":alloy_nested",
    `if /i not "%~1"=="%~2" set "${FOUND}=1"`,
    "exit /b 0",
    ":alloy_fail",
    `set "${STATUS}=!errorlevel!"`,
    `exit /b !${STATUS}!`,
    ":alloy_begin",
    "setlocal EnableExtensions EnableDelayedExpansion",
    "chcp 65001 >nul 2>&1",
    "goto alloy_body",
  ];
  return `${lines.join("\r\n")}\r\n`;
}

/** Windows' own shell. Its scripts come with parts. */
export const cmd: ShellWriter = {
  name: "cmd",
  write: (ops, options) => compile(ops, options).text,
  parts: (ops, options) => compile(ops, options).parts,
  command: () => ({ argv: ["cmd", "/d", "/e:on", "/v:off", "/s", "/c"], scriptOn: "file", extension: ".cmd" }),
  acceptsName: (name) =>
    /^[A-Za-z_](?:[\w.() -]*[\w.()-])?$/.test(name) && !DYNAMIC.test(name) && !name.toUpperCase().startsWith(OWN),
};
