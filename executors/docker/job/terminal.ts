import type { Terminal, TerminalRequest } from "../../../src/executor/environment.ts";
import type { ShellName } from "../../../src/shell.ts";
import { terminalShell } from "../../common/terminal-start.ts";
import { openRemoteTerminal, type RemoteCommands } from "../../remote/index.ts";
import type { Places } from "../container/places.ts";
import type { Engine } from "../engine/engine.ts";
import { startExec } from "../engine/exec.ts";

export interface ContainerTerminal {
  readonly engine: Engine;
  readonly container: {
    readonly id: string;
    readonly name: string;
    readonly user: string | undefined;
    readonly env: readonly string[];
  };
  /** Programs in it, as the job's user. */
  readonly commands: RemoteCommands;
  readonly places: Pick<Places, "root" | "tmpDir">;
  readonly shell: ShellName;
  /** `jobMark(jobKey)` */
  readonly mark: string;
  readonly killGraceMs: number;
}

/** A person's shell in the build container, by an exec with a pseudo-terminal. */
export async function openContainerTerminal(
  { engine, container, commands, places, shell, mark, killGraceMs }: ContainerTerminal,
  request: TerminalRequest,
  signal: AbortSignal,
): Promise<Terminal> {
  const { id, name, user, env } = container;
  const { root, tmpDir } = places;
  const around = { commands, root, tmpDir, shell: terminalShell(shell, false), mark, killGraceMs };
  return await openRemoteTerminal(
    {
      ...around,
      start: async (argv, starting) => {
        const { connection } = await startExec(
          engine,
          {
            container: id,
            what: `open a terminal in ${name}`,
            argv,
            tty: true,
            workingDir: "/",
            env,
            ...(user === undefined ? {} : { user }),
          },
          starting,
        );
        return { input: connection, output: connection, hangUp: () => connection.destroy() };
      },
    },
    request,
    signal,
  );
}
