import { PassThrough, Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { SystemFailure } from "../../../src/errors.ts";
import { pause, unlessAborted } from "../../../src/time.ts";
import { argvOf, type RemoteCommand, type RemoteCommands, type RemoteExit } from "../../remote/index.ts";
import { type Engine, isGone } from "./engine.ts";
import { type StartedExec, startExec } from "./exec.ts";
import { type FrameReader, readFrames } from "./stream.ts";

interface ContainerCommandsOptions {
  readonly engine: Engine;
  readonly container: string;
  /** For messages: `the build container`. */
  readonly name: string;
  /** Absent: the container's own. */
  readonly user?: string;
  readonly env?: readonly string[];
  /** When it fires, output that nobody takes no longer holds a program up: it is about to be ended. */
  readonly stopping?: AbortSignal;
}

const STDERR_BYTES = 16 * 1024;
/** A program whose output stays open may have ended: it is asked for that often. */
const FIRST_LOOK_MS = 250;
const LONGEST_LOOK_MS = 1000;
/** How much of an output may be read before somebody takes it. */
const BUFFER_BYTES = 256 * 1024;

/** Programs by exec in a running container. */
export function containerCommands(options: ContainerCommandsOptions): RemoteCommands {
  const { engine, container, name, user, env } = options;
  return {
    start: async (command, signal) => {
      const what = `run a program in ${name}`;
      const exec = await startExec(
        engine,
        {
          container,
          what,
          argv: argvOf(command),
          workingDir: "/",
          ...(user === undefined ? {} : { user }),
          ...(env === undefined ? {} : { env }),
        },
        signal,
      );
      const stdout = new PassThrough({ highWaterMark: BUFFER_BYTES });
      const stderr = createTail(STDERR_BYTES);
      const reader = readFrames(exec.connection, { stdout, stderr: stderr.output });
      const { stopping } = options;
      if (stopping?.aborted === true) reader.hurry();
      else stopping?.addEventListener("abort", reader.hurry, { once: true });
      const feeding = feed(command.stdin, exec);
      const exit = watch(exec, reader, feeding, name, signal).then((code) => ({ code, stderr: stderr.text() }));
      // The reader of stdout gets to know why it is incomplete.
      void reader.ended.then((error) => {
        stopping?.removeEventListener("abort", reader.hurry);
        if (error === null) stdout.end();
        else stdout.destroy(signal.aborted ? undefined : lost(name, error));
      });
      stdout.on("error", () => {}).on("close", () => reader.close());
      exit.catch(() => {});
      return { stdout, exit };
    },
  };
}

function lost(name: string, cause: unknown): SystemFailure {
  return new SystemFailure(`The connection to ${name} was lost while a program ran there`, { cause, retry: true });
}

/** Hand over stdin and end it. A program that does not read it to its end is no failure. */
async function feed(stdin: RemoteCommand["stdin"], { connection }: StartedExec): Promise<Error | null> {
  if (stdin === undefined) connection.end();
  else if (!(stdin instanceof Readable)) connection.end(stdin);
  else {
    try {
      await pipeline(stdin, unclosed(connection));
    } catch (error) {
      // What was to be read failed: the program must not take what it has for all.
      if (stdin.errored !== null) return stdin.errored;
      return error instanceof Error && connection.destroyed ? null : new Error(String(error));
    }
  }
  return null;
}

/** Of `pipeline`, which would take a connection that it may not read from for one that was cut. */
function unclosed(connection: Writable): Writable {
  return new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      if (connection.destroyed || connection.writableEnded) done();
      else if (connection.write(chunk)) done();
      else {
        const go = (): void => {
          connection.off("drain", go).off("close", go);
          done();
        };
        connection.on("drain", go).on("close", go);
      }
    },
    final: (done) => {
      connection.end();
      done();
    },
  });
}

/** The program's status: when its output has ended, or when the daemon says so although something still holds that open. */
async function watch(
  exec: StartedExec,
  reader: FrameReader,
  feeding: Promise<Error | null>,
  name: string,
  signal: AbortSignal,
): Promise<number> {
  const over = new AbortController();
  const ofOutput = async (): Promise<number> => {
    const error = await reader.ended;
    if (error !== null) throw lost(name, error);
    return await exec.finished(over.signal);
  };
  const ofDaemon = async (): Promise<number> => {
    for (let waitMs = FIRST_LOOK_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_LOOK_MS)) {
      await pause(waitMs, over.signal);
      // While the output flows, a daemon that does not answer this question is no reason to give up; it is asked again.
      const code = await exec.status(over.signal).catch((error: unknown) => {
        over.signal.throwIfAborted();
        // One that knows the program no more will never end its output either.
        if (isGone(error)) throw lost(name, error);
        return null;
      });
      if (code !== null) return code;
    }
  };
  const ofInput = feeding.then((error) => {
    if (error === null) return new Promise<never>(() => {});
    reader.close();
    throw error;
  });
  const output = ofOutput();
  const daemon = ofDaemon();
  for (const one of [output, daemon, ofInput]) one.catch(() => {});
  try {
    return await unlessAborted(Promise.race([output, daemon, ofInput]), signal);
  } finally {
    if (signal.aborted) reader.close();
    over.abort();
  }
}

/** The last `bytes` of what is written. */
function createTail(bytes: number): { output: Writable; text(): string } {
  let held = Buffer.alloc(0);
  const output = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      held = Buffer.concat([held, chunk]).subarray(-bytes);
      done();
    },
  });
  return { output, text: () => held.toString() };
}

/** A program's whole output, if it is no more than `mostBytes`. */
export async function runForText(
  commands: RemoteCommands,
  command: RemoteCommand,
  signal: AbortSignal,
  mostBytes = 64 * 1024,
): Promise<RemoteExit & { readonly stdout: string }> {
  const { stdout, exit } = await commands.start(command, signal);
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stdout) {
    const piece = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
    if (bytes < mostBytes) chunks.push(piece);
    bytes += piece.length;
  }
  return { ...(await exit), stdout: Buffer.concat(chunks).toString("utf8", 0, mostBytes) };
}
