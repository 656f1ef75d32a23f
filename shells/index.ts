import type { ShellName, ShellWriter } from "../src/shell.ts";
import { bash, sh } from "./bash.ts";
import { cmd } from "./cmd.ts";
import { powershell, pwsh } from "./powershell.ts";

const writers: readonly ShellWriter[] = [bash, sh, cmd, powershell, pwsh];

/** The writer of a shell's scripts; `undefined` where there is none. */
export function findShellWriter(name: ShellName): ShellWriter | undefined {
  return writers.find((writer) => writer.name === name);
}
