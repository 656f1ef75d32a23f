import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import type { ShellWriter } from "../../src/shell.ts";
import type { WindowsShell } from "../contract/windows-shell.ts";

/** Brings PowerShell 7 where it is: no package archive has it. `.ci/run` calls it. */
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

/** Fails in CI where it could be had. */
export const hasPwsh = pwshMissing() === null;

/**
 * `pwsh` as the interpreter of a writer's scripts, also for those of Windows PowerShell, which exists on Windows only: they
 * are a file with a byte order mark there, too.
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
      broken: [
        "if (",
        "'unclosed",
        '"unclosed',
        "}",
        ")",
        "Get-Item )",
        "'x'\nusing namespace System.IO",
        "@'\nunclosed",
      ],
      dump: (path) => `sh -c 'env -0 >"$0"' ${path}`,
      args: ["printf", "%s\\0"],
      program: "sh",
      noise: ["sh", "-c", "echo noise; echo noise >&2"],
      exit: (status) => ["sh", "-c", `exit ${status}`],
    },
    unknownProgram: 1,
  };
}
