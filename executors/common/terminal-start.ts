import type { TerminalRequest } from "../../src/executor/environment.ts";
import type { Argv, ShellName } from "../../src/shell.ts";

/** What a person's shell starts with, as text for `sh`. */
export interface TerminalStart {
  readonly variables: TerminalRequest["variables"];
  /** The checkout; where there is none yet, it begins at home. */
  readonly root: string;
  readonly shell: Argv;
  /** `NAME=value` by which all that is started there is found again. */
  readonly mark: string;
}

/** The environment of one process holds little more. */
const MOST_BYTES = 96 * 1024;
/** The protocol tells no size of the window. */
const SIZE = "rows 24 cols 80";

/** The shell of a person, where jobs have this one. Without a profile's help it finds what scripts find. */
export function terminalShell(shell: ShellName, login: boolean): Argv {
  return login && shell !== "pwsh" ? [shell, "-l"] : [shell];
}

/** For `sh` on a pseudo-terminal: exports, the directory, and then the shell itself in the place of `sh`. */
export function terminalStart({ variables, root, shell, mark }: TerminalStart): string {
  let bytes = 0;
  const exports = [{ key: "TERM", value: "xterm-256color" }, ...variables, pair(mark)].flatMap(({ key, value }) => {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key) || value.includes("\0")) return [];
    const line = `export ${key}=${quote(value)}`;
    bytes += Buffer.byteLength(line);
    return bytes > MOST_BYTES && !mark.startsWith(`${key}=`) ? [] : [line];
  });
  return [
    `stty echo ${SIZE} 2>/dev/null`,
    ...exports,
    `cd ${quote(root)} 2>/dev/null || cd`,
    `exec ${shell.map(quote).join(" ")}`,
    "",
  ].join("\n");
}

function pair(entry: string): { readonly key: string; readonly value: string } {
  const equals = entry.indexOf("=");
  return { key: entry.slice(0, equals), value: entry.slice(equals + 1) };
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
