import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ShellWriter } from "../../src/shell.ts";
import type { WindowsShell } from "../contract/windows-shell.ts";

/** PowerShell is in no package archive: its scripts run where somebody has installed it. */
export const hasPwsh = spawnSync("pwsh", ["-NoProfile", "-Command", "exit 0"]).status === 0;

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
