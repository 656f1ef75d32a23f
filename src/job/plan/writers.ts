import { SystemFailure } from "../../errors.ts";
import type { Executor } from "../../executor/executor.ts";
import type { Op, ShellName, ShellWriter } from "../../shell.ts";

/** Who writes the scripts of a job. */
export interface Writers {
  /** For the shell that authors and operators write in. */
  readonly author: ShellWriter;
  /** For scripts that hold no word of theirs. */
  readonly own: ShellWriter;
}

/** A script, and the shell it is meant for. */
export interface Draft {
  readonly writer: ShellWriter;
  readonly ops: readonly Op[];
  /** Whether a login shell reads it. */
  readonly login: boolean;
}

/** It takes longer to start than all of the runner's own work, and containers of the runner's own need not have it. */
function isPowerShell(shell: ShellName): boolean {
  return shell === "powershell" || shell === "pwsh";
}

/**
 * Where authors write for a PowerShell, the runner's own scripts are for the plain shell of the place.
 * @throws {SystemFailure} no scripts can be written for one of them
 */
export function findWriters(
  shell: ShellName,
  { plainShell = "sh" }: Pick<Executor, "plainShell">,
  find: (shell: ShellName) => ShellWriter | undefined,
): Writers {
  const writerOf = (name: ShellName): ShellWriter => {
    const writer = find(name);
    if (writer === undefined) throw new SystemFailure(`no scripts can be written for the shell ${name}`);
    return writer;
  };
  return { author: writerOf(shell), own: writerOf(isPowerShell(shell) ? plainShell : shell) };
}

/**
 * Which shell gets these instructions. Variables whose names it cannot hold are left out: those that the author's shell cannot
 * hold were named to the author before.
 * @param login whether the author's scripts are read by a login shell here
 */
export function draft(ops: readonly Op[], { author, own }: Writers, login: boolean): Draft {
  const authored = ops.some((op) => op.op === "source");
  const writer = authored ? author : own;
  const held = ops.filter((op) => (op.op !== "export" && op.op !== "exportFile") || writer.acceptsName(op.name));
  // Profiles are the author's (and the operator's) business; they can take longer than all of the runner's own work.
  // A PowerShell reads none of a login shell, so what they set reaches it as it reaches the runner's own scripts.
  return { writer, ops: held, login: login && authored && !isPowerShell(writer.name) };
}
