import { randomBytes } from "node:crypto";
import { PassThrough, type Readable, type Writable } from "node:stream";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import { tidyAfter } from "../../../src/files/tidy.ts";
import type { ShellName } from "../../../src/shell.ts";
import { unlessAborted } from "../../../src/time.ts";
import { beforeAbort, DRAIN_MS, drain, forward } from "../../common/processes/forward.ts";
import type { RemoteCommand, RemoteCommands, RemoteExit, RemoteProcess } from "../../remote/index.ts";
import { type DriverHost, makeCallDir, nameCall, startCall } from "../driver/call.ts";
import { writeScriptFile } from "../driver/script-file.ts";
import type { DriverProgram } from "../settings.ts";
import { readFrame } from "./frame.ts";
import { type ChannelInput, channelScript } from "./frame-program.ts";

export interface ChannelOptions {
  readonly host: DriverHost;
  readonly program: DriverProgram;
  /** The shell that scripts are written for. */
  readonly shell: ShellName;
  /** The stage that a call belongs to. */
  readonly stage: () => string;
  /** Takes what the driver itself says. */
  readonly notes: Writable;
  /** Directory, as scripts see it, in which larger input is put together. */
  readonly tmpDir: string;
  /** Printed in front of the first call's frame. */
  readonly greeting?: string;
}

/** Most input in one script: shells hold a here-document in memory, some of them several times. */
const MOST_TEXT_BYTES = 6 * 1024 * 1024;

/** From the program's end, for what it had to say after the frame. */
const LAST_WORDS_MS = 200;

const NO_BASE64 = 69;
const NO_SHELL = 68;

/**
 * Programs in a place that takes nothing but scripts, one per call of `run_exec`: what goes in stands in the script's own text,
 * in several calls where it is much, and what comes out comes as base64 between two marks. Nothing is read from a driver's stdin.
 */
export function driverCommands(options: ChannelOptions): RemoteCommands {
  const { host, program, shell, stage, notes, tmpDir } = options;
  let { greeting } = options;

  /** Begins one call. */
  const begin = async (
    command: Pick<RemoteCommand, "script" | "args">,
    input: ChannelInput,
    signal: AbortSignal,
  ): Promise<RemoteProcess> => {
    signal.throwIfAborted();
    const number = randomBytes(16).toString("hex");
    const before = greeting === undefined ? {} : { before: greeting };
    greeting = undefined;
    const text = channelScript({ number, program: command.script, args: command.args, input, ...before }, shell);
    const call = { program, stage: stage(), stderr: "apart" } as const;
    const name = nameCall(call);
    const callDir = await makeCallDir(host);
    const file = await writeScriptFile(callDir, text, shell);
    const run = await startCall(host, { ...call, args: [file, call.stage] }, callDir);
    const inside = new PassThrough({ highWaterMark: 1024 * 1024 });
    inside.on("error", () => {});
    const { stdout, stderr } = run.running;
    const words = forward(stderr, notes);
    const framed = readFrame(stdout, number, { inside, outside: notes, name });
    const after = framed.then(
      () => (stdout.readableEnded ? null : forward(stdout, notes)),
      () => {
        stdout.destroy();
        return null;
      },
    );
    const exit = (async (): Promise<RemoteExit> => {
      try {
        const ended = await run.ended(words, null, signal);
        const exit = await unlessAborted(framed, signal);
        const rest = await after;
        if (rest !== null) await beforeAbort(drain(rest, DRAIN_MS, { patienceMs: LAST_WORDS_MS }), signal);
        signal.throwIfAborted();
        await run.verdict(ended);
        if (ended.code !== 0) {
          throw new SystemFailure(`${name} ended with status ${ended.code} for a script that ends with 0`, {
            retry: true,
          });
        }
        if (exit === null) {
          throw new SystemFailure(
            `${name} ended with status 0, and the script was not run to its end: what it prints has to come back whole on stdout`,
            { retry: true },
          );
        }
        if (exit.code === NO_BASE64)
          throw new SystemFailure(`Files cannot be moved through ${name}: neither base64 nor openssl is there`);
        if (exit.code === NO_SHELL)
          throw new SystemFailure(`Files cannot be moved through ${name}: no POSIX shell (sh) is there`);
        inside.end();
        return exit;
      } catch (error) {
        inside.destroy(error instanceof Error ? error : new Error(describeError(error)));
        throw error;
      } finally {
        await words.ended(200);
        words.close();
        stdout.destroy();
        await run.close();
      }
    })();
    exit.catch(() => {}); // whoever awaits `exit` gets the error
    return { stdout: inside, exit };
  };

  /** Add to a file there. */
  const append = async (path: string, bytes: Buffer, signal: AbortSignal): Promise<void> => {
    // The bytes are held as base64 in the script, and again on their way to the file.
    tidyAfter(4 * bytes.length);
    const command = { script: APPEND, args: [path] };
    const { stdout, exit } = await begin(command, { from: "text", bytes }, signal);
    stdout.resume();
    const { code, stderr } = await exit;
    if (code !== 0) throw new SystemFailure(`Cannot save what is to be unpacked: ${stderr.trim().slice(-500)}`);
  };

  return {
    async start(command, signal) {
      const { stdin } = command;
      if (stdin === undefined) return await begin(command, { from: "nowhere" }, signal);
      const path = `${tmpDir}/.in-${randomBytes(8).toString("hex")}`;
      const whole = stdin instanceof Uint8Array ? [Buffer.from(stdin)] : stdin;
      let saved = 0;
      const last = await eachPart(whole, async (part) => {
        await append(path, part, signal);
        saved += part.length;
      });
      if (saved === 0) return await begin(command, { from: "text", bytes: last }, signal);
      await append(path, last, signal);
      return await begin(command, { from: "file", path, bytes: saved + last.length }, signal);
    },
  };
}

const APPEND = `umask 077; mkdir -p "\${1%/*}" && cat >>"$1"`;

/** @returns what is left when it has ended, once all before it was handed over in parts */
async function eachPart(input: Readable | readonly Buffer[], take: (part: Buffer) => Promise<void>): Promise<Buffer> {
  let waiting: Buffer[] = [];
  let size = 0;
  for await (const piece of input) {
    for (let at = 0; at < piece.length; ) {
      const some: Buffer = piece.subarray(at, at + MOST_TEXT_BYTES - size);
      waiting.push(some);
      size += some.length;
      at += some.length;
      if (size < MOST_TEXT_BYTES) continue;
      await take(Buffer.concat(waiting));
      [waiting, size] = [[], 0];
    }
  }
  return Buffer.concat(waiting);
}
