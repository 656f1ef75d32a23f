import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ShellName } from "../../../src/shell.ts";

const BANGS: Readonly<Partial<Record<ShellName, string>>> = {
  bash: "#!/usr/bin/env bash\n",
  sh: "#!/bin/sh\n",
  pwsh: "#!/usr/bin/env pwsh\n",
};

/**
 * A script as drivers expect it: `script`, or `script.ps1`, executable, with its shell in the first line. It works by its name,
 * as an argument of its shell, and on its shell's stdin.
 */
export async function writeScriptFile(callDir: string, text: string | Buffer, shell: ShellName): Promise<string> {
  const ending = shell === "pwsh" || shell === "powershell" ? ".ps1" : "";
  const path = join(callDir, `script${ending}`);
  // Windows PowerShell reads UTF-8 only behind the byte order mark that its text begins with.
  const bang = BANGS[shell] ?? "";
  await writeFile(path, Buffer.concat([Buffer.from(bang), Buffer.from(text)]), { mode: 0o700, flag: "wx" });
  return path;
}
