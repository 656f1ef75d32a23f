import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import type { Op, ShellWriter } from "../../src/shell.ts";
import type { ShellResult, WindowsShell } from "../contract/windows-shell.ts";

/** Script that installs PowerShell 7, which no package archive has. `.ci/run` calls it. */
const INSTALLER = join(import.meta.dirname, "../../../shared/pwsh/install.sh");

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Folder of the `pwsh` on PATH; `null` where there is none. */
export function pwshFolder(): string | null {
  const found = (process.env.PATH ?? "")
    .split(delimiter)
    .map((dir) => join(dir, "pwsh"))
    .find(isProgram);
  return found === undefined ? null : dirname(realpathSync(found));
}

/** Why tests with a real PowerShell are skipped; `null` where there is one. In CI, which could have it, that is a failure. */
export function pwshMissing(): string | null {
  if (pwshFolder() !== null) return null;
  if (process.env.CI === "true" && existsSync(INSTALLER)) {
    throw new Error(`no pwsh on PATH: PATH="$(${INSTALLER}):$PATH"`);
  }
  return "needs pwsh (PowerShell 7) on PATH";
}

/** Whether there is a pwsh. In CI, which could have one, a missing pwsh is an error. */
export const hasPwsh = pwshMissing() === null;

/**
 * `pwsh` as the interpreter of a writer's scripts. It also runs those for Windows PowerShell, which exists on Windows
 * only: they become a file with a byte order mark, as there.
 */
export function openPwsh(writer: ShellWriter, dir: string): WindowsShell {
  return {
    writer,
    dir,
    place: dir,
    run: (script) => {
      const { argv, scriptOn, extension } = writer.command({ login: false });
      const file = join(dir, `script${extension}`);
      if (scriptOn === "file") writeFileSync(file, script);
      const { status, stdout, stderr } = spawnSync("pwsh", [...argv.slice(1), ...(scriptOn === "file" ? [file] : [])], {
        cwd: dir,
        input: scriptOn === "file" ? "" : script,
        encoding: "utf8",
        maxBuffer: 1 << 28,
      });
      if (scriptOn === "file") rmSync(file);
      return { status, stdout, stderr };
    },
    say: {
      print: (word) => `[Console]::Out.WriteLine('${word}')`,
      leave: (status) => `exit ${status}`,
      fail: (status) => `sh -c 'exit ${status}'`,
      set: (name, value) => `$${name} = '${value}'`,
      show: (name) => `if ($${name}) { $${name} } else { [Environment]::GetEnvironmentVariable('${name}') }`,
      comment: "# nothing",
      broken: ["if (", "'unclosed", "}", "Get-Item )", "'x'\nusing namespace System.IO"],
      dump: (path) => `sh -c 'env -0 >"$0"' ${path}`,
      args: ["printf", "%s\\0"],
      program: "sh",
      noise: ["sh", "-c", "echo noise; echo noise >&2"],
      exit: (status) => ["sh", "-c", `exit ${status}`],
    },
    unknownProgram: 1,
  };
}

/** Runs entries of an author, with variables set before them, in a directory that is removed at the end. */
export interface Author extends Disposable {
  readonly dir: string;
  /** The output has neither the proof nor colours. */
  run(entries: readonly string[], variables?: Readonly<Record<string, string>>): ShellResult;
}

export function openAuthor(writer: ShellWriter): Author {
  const dir = mkdtempSync(join(tmpdir(), "alloy-pwsh-"));
  const shell = openPwsh(writer, dir);
  const plain = (text: string): string => text.replace(/\x1b\[[0-9;]*m/g, "");
  return {
    dir,
    run: (entries, variables = {}) => {
      const ops = [
        ...Object.entries(variables).map(([name, value]): Op => ({ op: "export", name, value })),
        ...entries.map((text): Op => ({ op: "source", text })),
      ];
      const text = writer.write(ops, { tmpDir: join(dir, "tmp"), xtrace: false, proof: "proof" });
      const { status, stdout, stderr } = shell.run(text, undefined);
      return { status, stdout: plain(stdout).replace(/^proof\n/, ""), stderr: plain(stderr) };
    },
    [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }),
  };
}
