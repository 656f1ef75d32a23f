import { Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { CommandError, describeError } from "../errors.ts";

/**
 * Standard output as commands print to it. It ends only once all of it has left, or could not be written: under Bun, which
 * releases are built on, only the callback of each write tells, and a process that exits before cuts its output off.
 * `open` gives the stream when there is something to write, because `run` prints nothing.
 */
export function createOutput(open: () => Writable): Writable {
  let stdout: Writable | undefined;
  /** Callbacks come in the order of the writes, so the last one stands for all. */
  let last = Promise.resolve();
  const output = new Writable({
    decodeStrings: false,
    write(chunk, encoding, done) {
      // The error comes by the callback, too; without a listener the event would be an uncaught exception.
      stdout ??= open().on("error", () => {});
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const roomLeft = stdout.write(chunk, encoding, (error) => (error ? reject(error) : resolve()));
      last = promise;
      promise.catch((error: Error) => output.destroy(error));
      // Lines for standard error that follow must not overtake this one.
      if (roomLeft) done();
      else promise.then(() => done(), done);
    },
    final(done) {
      last.then(() => done(), done);
    },
  });
  return output.on("error", () => {});
}

/**
 * Waits until all of it has left. Whoever closes the pipe (`| head`) has read enough.
 * @throws {CommandError} it could not be written
 */
export async function endOutput(output: Writable): Promise<void> {
  output.end();
  try {
    await finished(output);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EPIPE") return;
    throw new CommandError(`Standard output cannot be written: ${describeError(error)}`, { cause: error });
  }
}
