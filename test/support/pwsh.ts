import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Op, ShellWriter } from "../../src/shell.ts";
import type { ShellResult, WindowsShell } from "../contract/windows-shell.ts";

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

/** Entries of an author, and variables before them, in a directory that goes away at the end. */
export interface Author extends Disposable {
  readonly dir: string;
  /** Without the proof and without colours. */
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
