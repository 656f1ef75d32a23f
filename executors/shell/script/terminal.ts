import { spawn } from "node:child_process";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { Terminal, TerminalRequest } from "../../../src/executor/environment.ts";
import type { Argv } from "../../../src/shell.ts";
import { terminalStart } from "../../common/terminal-start.ts";
import { findProgram } from "../launch/launch.ts";
import { removeSoon } from "../processes/cgroup.ts";
import { enlisted } from "../processes/enlisted.ts";
import { endMembers } from "../processes/tree.ts";
import type { ScriptHost } from "./script.ts";

/** Holds the text that the terminal starts with. It is one variable, and no name of a job's reaches what changes the user. */
const START = "ALLOY_RUNNER_TERMINAL";
const STUCK_MS = 5000;
/** Begins the rest of the name of a terminal's control group, where those of scripts have their number. */
const GROUP = "t";

/** `ALLOY_RUNNER_JOB_KEY=<key>` → what processes of the job's terminal carry: the end of a script does not end them. */
export function terminalMark(mark: string): string {
  return `${mark}.terminal`;
}

/** The program that makes pseudo-terminals here: of util-linux, or of BSD. Neither runtime makes any without a native module. */
export function hasTerminals(path: string): boolean {
  return findProgram("script", path) !== undefined;
}

/** `script` runs as the job's user, so that the pseudo-terminal is that user's, too. */
function scriptArgv(): Argv {
  const evaluate = `eval "$${START}"`;
  // It starts $SHELL, which may be any; on BSD it starts what it is told.
  return process.platform === "linux"
    ? ["env", "SHELL=/bin/sh", "script", "-qfc", evaluate, "/dev/null"]
    : ["script", "-q", "/dev/null", "/bin/sh", "-c", evaluate];
}

export interface LocalTerminal extends TerminalRequest {
  readonly root: string;
  readonly shell: Argv;
}

/** @throws {SystemFailure} no pseudo-terminal can be made */
export async function openTerminal(
  { launch, table, mark, killGraceMs, cgroups, groupPrefix, nextGroup }: ScriptHost,
  { variables, root, shell }: LocalTerminal,
  signal: AbortSignal,
): Promise<Terminal> {
  signal.throwIfAborted();
  const its = terminalMark(mark);
  const accountShell = launch.environment.SHELL ?? "/bin/sh";
  const text = terminalStart({ variables, root, shell, mark: its });
  // Neither a new session nor an empty environment leads out of it.
  let group = `${groupPrefix}${GROUP}${nextGroup()}`;
  // One that an earlier process has made.
  while (cgroups?.find(group)) group = `${groupPrefix}${GROUP}${nextGroup()}`;
  const cgroup = cgroups?.create(group) ?? null;
  const [program, ...args] = enlisted(launch.command(scriptArgv()), cgroup);
  const equals = its.indexOf("=");
  const child = spawn(program, args, {
    cwd: "/",
    env: {
      ...launch.environment,
      [its.slice(0, equals)]: its.slice(equals + 1),
      [START]: `unset ${START}\nexport SHELL='${accountShell.replaceAll("'", "'\\''")}'\n${text}`,
    },
    detached: true,
    stdio: ["pipe", "pipe", "ignore"],
  });
  const { stdin, stdout } = child;
  const failed = new Promise<never>((_, reject) =>
    child.once("error", (cause) =>
      reject(new SystemFailure(`Cannot make a pseudo-terminal by "script": ${describeError(cause)}`, { cause })),
    ),
  );
  const started = new Promise<number>((resolve) => child.once("spawn", () => resolve(child.pid ?? 0)));
  const pid = await Promise.race([started, failed]).catch((error: unknown) => {
    cgroup?.remove();
    throw error;
  });
  child.on("error", () => {});
  const startedAt = table.find(pid)?.startedAt ?? 0;
  const belonging = {
    table,
    mark: its,
    uid: launch.uid,
    leader: { pid, startedAt },
    since: startedAt,
    cgroup,
  };
  let closing: Promise<void> | null = null;
  const end = async (): Promise<void> => {
    stdin.destroy();
    // Without it the kernel hangs up on the shell, which ignores SIGTERM while it is interactive.
    child.kill("SIGHUP");
    await endMembers({ belonging, graceMs: killGraceMs, limitMs: STUCK_MS });
    if (cgroup !== null) await removeSoon(cgroup);
    stdout.destroy();
    child.unref();
  };
  return {
    input: stdin,
    output: stdout,
    close: () => {
      closing ??= end().catch(() => {});
      return closing;
    },
  };
}
