import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import type { RemoteCommand, ScriptCommands } from "../commands.ts";
import { lastLine, runToEnd } from "../run-to-end.ts";
import { follow, lastWords } from "./follow.ts";
import type { DurableOptions } from "./options.ts";
import { persistently } from "./patience.ts";
import { attendant, START } from "./programs.ts";

const START_MS = 30_000;

const STATUS_NO_FILES = 95;

/** The place says that the program does not run. */
class NotStarted extends SystemFailure {}

/**
 * Programs that go on where the connection breaks: their output lies in files and is followed from where it was, and their status
 * is in a file that is written when they end. Each program gets all of its stdin, or is not started; none is started twice, also
 * where another process goes on with it.
 */
export function durableCommands(options: DurableOptions): ScriptCommands {
  const done: string[] = [];
  return {
    start: async ({ lasting, ...command }, signal) => {
      const { resume } = lasting ?? {};
      const directory = resume?.directory ?? `${options.directory}/${randomBytes(8).toString("hex")}`;
      if (resume === undefined) lasting?.begins(directory);
      if (resume?.started !== true) {
        try {
          await begin(options, directory, command, done.splice(0), signal);
        } catch (error) {
          signal.throwIfAborted();
          if (error instanceof NotStarted) throw error;
          return lastWords(options, directory, error, signal);
        }
        lasting?.started();
      }
      const followed = {
        directory,
        from: resume?.from ?? 0,
        ...(lasting === undefined ? {} : { settled: () => lasting.settled() }),
        onDone: () => done.push(directory),
      };
      return follow(options, followed, signal);
    },
  };
}

async function begin(
  options: DurableOptions,
  directory: string,
  { script, args, stdin }: RemoteCommand,
  done: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  if (stdin instanceof Readable) throw new TypeError("a durable program gets its stdin as bytes");
  const bytes = stdin ?? Buffer.alloc(0);
  const command: RemoteCommand = {
    script: START,
    args: [directory, String(bytes.length), done.join("\n"), attendant, "sh", "-c", script, "alloy-runner", ...args],
    stdin: bytes,
  };
  const { code, stderr } = await persistently(
    options,
    options.awayMs ?? START_MS,
    () => runToEnd(options.commands, command, 64 * 1024, signal),
    signal,
  );
  if (code === 0) return;
  const why = lastLine(stderr) || `status ${code}`;
  throw new NotStarted(
    code === STATUS_NO_FILES
      ? `Cannot save a script in ${options.directory}: ${why}`
      : `A script could not be started: ${why}`,
    { retry: code !== STATUS_NO_FILES },
  );
}
