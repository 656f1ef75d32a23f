import type { Duplex } from "node:stream";
import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import { pause } from "../../../src/time.ts";
import type { Engine } from "./engine.ts";

/** A program to start in a running container. */
interface ExecRequest {
  readonly container: string;
  /** Completes "Cannot …": `run the script in the build container`. */
  readonly what: string;
  readonly argv: readonly string[];
  /** `uid[:gid]` or a name; absent: the container's. */
  readonly user?: string;
  /** `NAME=value`; visible to everybody who may ask the daemon. */
  readonly env?: readonly string[];
  readonly workingDir?: string;
  /** On a pseudo-terminal: then no frames come out, but what it shows. */
  readonly tty?: true;
}

export interface StartedExec {
  /** Frames come out; what goes in is the program's stdin, and ending it is the end of that. */
  readonly connection: Duplex;
  /**
   * @returns the status, or `null` while it runs
   * @throws {SystemFailure} the daemon cannot say
   */
  status(signal: AbortSignal): Promise<number | null>;
  /** The status of a program whose output has ended; it is about to end, or has. */
  finished(signal: AbortSignal): Promise<number>;
}

const inspectSchema = z.object({ Running: z.boolean(), ExitCode: z.number().nullish() });

/** A program may close its output and go on; it is looked at this often then. */
const SHORTEST_LOOK_MS = 10;
const LONGEST_LOOK_MS = 1000;

/**
 * Start a program in a container. Nothing of it has been read when this resolves.
 * @throws {SystemFailure} the daemon did not start it
 */
export async function startExec(engine: Engine, request: ExecRequest, signal: AbortSignal): Promise<StartedExec> {
  const { container, what, argv, user, env, workingDir, tty = false } = request;
  const exec = await engine.call(
    what,
    (docker, abortSignal) =>
      docker.getContainer(container).exec({
        Cmd: [...argv],
        AttachStdin: true,
        AttachStdout: true,
        AttachStderr: true,
        Tty: tty,
        ...(user === undefined ? {} : { User: user }),
        ...(env === undefined ? {} : { Env: [...env] }),
        ...(workingDir === undefined ? {} : { WorkingDir: workingDir }),
        abortSignal,
      }),
    signal,
  );
  const connection = await engine.call(what, () => exec.start({ hijack: true, stdin: true, Tty: tty }), signal);
  const status = async (asking: AbortSignal): Promise<number | null> => {
    const answer = await engine.call(
      `ask how it went to ${what}`,
      (_, abortSignal) => exec.inspect({ abortSignal }),
      asking,
    );
    const found = inspectSchema.safeParse(answer);
    if (!found.success) throw new SystemFailure(`Cannot ${what}: the container engine does not tell how it ended`);
    const { Running, ExitCode } = found.data;
    return Running || ExitCode === null || ExitCode === undefined ? null : ExitCode;
  };
  return {
    connection,
    status,
    finished: async (asking) => {
      for (let waitMs = SHORTEST_LOOK_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_LOOK_MS)) {
        const code = await status(asking);
        if (code !== null) return code;
        await pause(waitMs, asking);
      }
    },
  };
}
