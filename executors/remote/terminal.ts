import { randomBytes } from "node:crypto";
import type { Readable, Writable } from "node:stream";
import { SystemFailure } from "../../src/errors.ts";
import type { Terminal, TerminalRequest } from "../../src/executor/environment.ts";
import type { Argv } from "../../src/shell.ts";
import { deadline, never } from "../../src/time.ts";
import { terminalStart } from "../common/terminal-start.ts";
import type { RemoteCommands } from "./commands.ts";
import { endTree } from "./processes/end-tree.ts";
import { lastLine, runToEnd } from "./run-to-end.ts";

/** The two ends of a pseudo-terminal in the place of a job. */
export interface RemotePty {
  readonly output: Readable;
  readonly input: Writable;
  /** Lets go of the connection; what runs there may not notice. */
  hangUp(): void;
}

/** Where a terminal is opened. */
export interface RemoteTerminalHost {
  /** Programs there, as the job's own user. */
  readonly commands: RemoteCommands;
  readonly root: string;
  readonly tmpDir: string;
  readonly shell: Argv;
  /** `jobMark(jobKey)` */
  readonly mark: string;
  readonly killGraceMs: number;
  /** Starts a program on a pseudo-terminal, as the same user. */
  start(argv: Argv, signal: AbortSignal): Promise<RemotePty>;
}

/** `$1`: file; stdin: what it is to hold. */
const PUT = `umask 077; cat >"$1"`;
/** `$1`: file, beside which the number of the person's shell is. An interactive shell ignores SIGTERM, and hears of this. */
const HANG_UP = `read -r pid <"$1.pid" && kill -HUP "$pid"; rm -f "$1" "$1.pid"`;

const STUCK_MS = 5000;
const FAREWELL_MS = 60_000;

/**
 * A person's shell where only a POSIX shell is. What it starts with is a file of the job's, which removes itself: command lines have
 * little room, and some are seen by everybody.
 * @throws {SystemFailure} it cannot be started
 */
export async function openRemoteTerminal(
  host: RemoteTerminalHost,
  { variables }: TerminalRequest,
  signal: AbortSignal,
): Promise<Terminal> {
  const { commands, root, tmpDir, shell, killGraceMs } = host;
  const nonce = randomBytes(8).toString("hex");
  // The job's mark begins it: the job's end finds what a script's end must leave.
  const mark = `${host.mark}${nonce}`;
  const file = `${tmpDir}/terminal-${nonce}`;
  const text = `echo $$ >"$0.pid"\nrm -f "$0"\n${terminalStart({ variables, root, shell, mark })}`;
  const args = [Buffer.from(file).toString("latin1")];
  const put = await runToEnd(commands, { script: PUT, args, stdin: Buffer.from(text) }, 1024, signal);
  if (put.code !== 0) {
    throw new SystemFailure(`Cannot save what the terminal starts with: ${lastLine(put.stderr)}`);
  }
  const { input, output, hangUp } = await host.start(["sh", file], signal);
  let closing: Promise<void> | null = null;
  const end = async (): Promise<void> => {
    using limit = deadline(never, FAREWELL_MS, new Error("it took too long"));
    try {
      await runToEnd(commands, { script: HANG_UP, args }, 1024, limit.signal);
      await endTree(commands, { mark, root: null, graceMs: killGraceMs, limitMs: STUCK_MS }, limit.signal);
    } finally {
      hangUp();
    }
  };
  return {
    input,
    output,
    close: () => {
      // Where the place does not answer, the end of the job removes it, or what is left in it.
      closing ??= end().catch(() => {});
      return closing;
    },
  };
}
