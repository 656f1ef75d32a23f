import type { Op, ShellCommand, ShellName, ShellWriter, Test, WriteOptions } from "../src/shell.ts";
import { commandLine } from "./command-line.ts";
import { helpersFor, prelude } from "./powershell-prelude.ts";
import { writeEntry, writeReading } from "./powershell-reading.ts";
import { isBare, isObeyed, quote, quoteContent } from "./powershell-words.ts";
import { toned } from "./tones.ts";

/** In UTF-16 units, with quotes. Longer values may be too long for the environment, which must end the script. */
const LONGEST_PLAIN = 30_000;

/** A call of a function of ours, which then is part of the script. */
type Call = (name: string, ...words: readonly (string | number)[]) => string;

function writeTest(test: Test, call: Call): string {
  switch (test.test) {
    case "directory":
      return `(${call("AlloyIsDirectory", quote(test.path))})`;
    case "file":
      return `(${call("AlloyIsFile", quote(test.path))})`;
    case "exists":
      return `(${call("AlloyIsThere", quote(test.path))})`;
    case "symlink":
      return `(${call("AlloyIsLink", quote(test.path))})`;
    case "program":
      return `(${call("AlloyProgram", quote(test.name))})`;
    case "succeeds": {
      const [name, ...args] = test.argv;
      return `((${call("AlloyRun", quote(name), quote(commandLine(args)), "$true")}) -eq 0)`;
    }
    case "nested":
      return `(${call("AlloyNested", quote(test.path), quote(test.name))})`;
    case "not":
      return `(-not ${writeTest(test.of, call)})`;
  }
}

/** Is a text of the author's in there? */
function isAuthored(op: Op): boolean {
  if (op.op === "when") return [...op.then, ...(op.else ?? [])].some(isAuthored);
  return op.op === "source" || (op.op === "repeat" && op.body.some(isAuthored));
}

/**
 * Instructions → the body of the script. Only entries of the author are traced, so that no value is shown. All entries are
 * read before the first of them runs, and after what the runner does for them: `using module` may need the directory.
 */
function writeBody(ops: readonly Op[], { xtrace, tmpDir }: WriteOptions, call: Call): string {
  let serial = 0;
  const entries: string[] = [];
  const authored = ops.findIndex(isAuthored);
  const list = (part: readonly Op[]): string => part.map(one).join("\n");
  let fresh = true;
  const obeys = ops.some((op) => op.op === "export" && isObeyed(op.name));
  const set = (name: string, value: string): string => {
    // Only in a new session is no variable of a name that can be ours read-only. Without a call, which takes 20 times as long.
    if (fresh && isBare(name) && value.startsWith("'") && value.length <= LONGEST_PLAIN) {
      return `$global:${name} = $env:${name} = ${value}`;
    }
    const text = call("AlloySet", quote(name), value, isBare(name) ? "$true" : "$false");
    return authored >= 0 && isObeyed(name) ? `${text}\n${call("AlloyObey", quote(name))}` : text;
  };
  const one = (op: Op): string => {
    switch (op.op) {
      case "export":
        return set(
          op.name,
          op.around === undefined
            ? quote(op.value)
            : `(${op.around.map(quote).join(` + [Environment]::GetEnvironmentVariable(${quote(op.name)}) + `)})`,
        );
      case "unset":
        return call("AlloyUnset", quote(op.name));
      case "exportFile":
        return `${call("AlloyWrite", quote(op.path), quoteContent(op.content))}\n${set(op.name, quote(op.path))}`;
      case "write":
        return call("AlloyWrite", quote(op.path), quoteContent(op.content));
      case "run": {
        const [name, ...args] = op.argv;
        const status = `$alloyStatus${++serial}`;
        return `${status} = ${call("AlloyRun", quote(name), quote(commandLine(args)), "$false")}\nif (${status} -ne 0) { ${call("AlloyStop", status)} }`;
      }
      case "source":
        return writeEntry(entries.push(op.text.replaceAll("\0", "")) - 1, obeys || entries.length > 1, op.text);
      case "cd":
        // The first cmdlet of a module loads the module; but only the cmdlet takes a path literally.
        return /[*?[\]`]/.test(op.path)
          ? call("AlloyEnter", quote(op.path))
          : `try { $null = $ExecutionContext.SessionState.Path.SetLocation(${quote(op.path)}) } catch { ${call("AlloyFail", "$_")} }`;
      case "mkdir":
        return call("AlloyMake", quote(op.path));
      case "remove":
        return call("AlloyRemove", quote(op.path));
      case "removeNamed":
        return call("AlloyRemoveNamed", quote(op.path), `@(${op.names.map(quote).join(", ")})`);
      case "exportLines":
        return call("AlloyLoad", quote(op.name), quote(op.path));
      case "printSection":
        return one({ op: "print", text: op.line, tone: op.tone });
      case "print":
        return `try { [Console]::Write(${quote(`${toned(op.text, op.tone)}\n`)}) } catch { }`;
      case "when":
        return `if ${writeTest(op.test, call)} {\n${list(op.then)}\n} else {\n${list(op.else ?? [])}\n}`;
      case "repeat":
        return writeRepeat(++serial, op, list(op.body), call);
      case "exit":
        return call("AlloyStop", op.status);
    }
  };
  if (authored < 0) return list(ops);
  const before = list(ops.slice(0, authored));
  fresh = false;
  const after = list(ops.slice(authored));
  return [before, writeReading(entries, xtrace, tmpDir), after].join("\n");
}

function writeRepeat(serial: number, op: Extract<Op, { op: "repeat" }>, body: string, call: Call): string {
  const [tries, status] = [`$alloyTry${serial}`, `$alloyStatus${serial}`];
  return [
    "$AlloyDepth++",
    `for (${tries} = 1; ; ${tries}++) {`,
    `${status} = 0`,
    "try {",
    body,
    `} catch { ${status} = ${call("AlloyStatusOf", "$_")}; $AlloyPassed = $true }`,
    `if (${status} -eq 0 -or ${tries} -ge ${Math.max(1, Math.trunc(op.attempts))}) { break }`,
    ...(op.pauseSeconds > 0 ? [`[Threading.Thread]::Sleep(${Math.ceil(op.pauseSeconds) * 1000})`] : []),
    "}",
    "$AlloyDepth--",
    `if (${status} -ne 0) { ${call("AlloyStop", status)} }`,
  ].join("\n");
}

/** What differs between the PowerShells. */
interface Edition {
  /** Makes `$OutputEncoding` UTF-8 without a mark, where it is not. */
  readonly begin: readonly string[];
  /** What errors do where the author has not said. */
  readonly preference: "Continue" | "Stop";
  readonly hastening: NonNullable<ShellCommand["hastening"]>;
}

/**
 * The runtime counts what runs how often to compile it better later, which takes a tenth of a start and helps no script that
 * is short. `00` is 0, written as nobody else does.
 */
const HASTENING = { DOTNET_TieredPGO: "00" } as const;

/**
 * The status is 1 from the first line on, and only two things make it another: the author's `exit`, and the last line, which
 * is reached where each entry that was due has run to its end. Whatever else ends the script early is a failure. The block
 * around it is read as a whole, so nothing of a script that was cut runs. No `try` around the author's entries: in one,
 * errors that `Continue` goes on after would end them.
 */
function writeScript(ops: readonly Op[], options: WriteOptions, { begin, preference, hastening }: Edition): string {
  const used = new Set<string>();
  const body = writeBody(ops, options, (name, ...words) => {
    used.add(name);
    return [name, ...words].join(" ");
  });
  return [
    "& {",
    "$host.SetShouldExit(1)",
    ...begin,
    prelude,
    helpersFor(used),
    ...Object.entries(hastening).map(
      ([name, value]) => `if ($env:${name} -ceq ${quote(value)}) { $env:${name} = $null }`,
    ),
    `[Console]::Write(${quote(`${options.proof}\n`)})`,
    "$global:LASTEXITCODE = 0",
    `$ErrorActionPreference = '${preference}'`,
    "$AlloyPassed = $true",
    body,
    "if ($AlloyPassed) { exit 0 }",
    "}",
    "",
  ].join("\n");
}

const WINDOWS: Edition = {
  begin: ["$OutputEncoding = [Text.UTF8Encoding]::new($false)"],
  preference: "Continue",
  hastening: {},
};

const FLAGS = ["-NoProfile", "-NonInteractive", "-NoLogo", "-ExecutionPolicy", "Bypass"] as const;

/** Reads the script, UTF-8, from stdin to its end; without signs that would have to be quoted on any platform's command line. */
const READ_SCRIPT = ". ([ScriptBlock]::Create([IO.StreamReader]::new([Console]::OpenStandardInput()).ReadToEnd()))";

function acceptsName(name: string): boolean {
  return name !== "" && !/[=\0]/.test(name);
}

/** Windows PowerShell 5.1. It reads a file as UTF-8 only behind a byte order mark. */
export const powershell: ShellWriter = {
  name: "powershell",
  write: (ops, options) => `\ufeff${writeScript(ops, options, WINDOWS)}`,
  command: () => ({ argv: ["powershell", ...FLAGS, "-File"], scriptOn: "file", extension: ".ps1" }),
  acceptsName,
};

/** PowerShell 7, on any platform. */
export const pwsh: ShellWriter = {
  name: "pwsh" satisfies ShellName,
  write: (ops, options) => writeScript(ops, options, { begin: [], preference: "Stop", hastening: HASTENING }),
  command: () => ({
    argv: ["pwsh", ...FLAGS, "-Command", READ_SCRIPT],
    scriptOn: "stdin",
    extension: ".ps1",
    hastening: HASTENING,
  }),
  acceptsName,
};
