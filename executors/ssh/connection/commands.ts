import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Stop, SystemFailure } from "../../../src/errors.ts";
import { deadline, unlessAborted } from "../../../src/time.ts";
import type { RemoteCommands, RemoteExit } from "../../remote/index.ts";
import type { SshChannel } from "./channel.ts";
import { commandLine } from "./command-line.ts";

/** Who starts programs: a connection, or several as one. */
interface Execs {
  readonly name: string;
  exec(command: string, signal: AbortSignal): Promise<SshChannel>;
}

/** A profile may print that much before the program begins. */
const MOST_NOISE_BYTES = 256 * 1024;
const MOST_STDERR_BYTES = 16 * 1024;
/** From the login shell's start until the program itself runs. */
const START_MS = 60_000;
/** stderr's last words come with the status or right behind it, unless something keeps it open. */
const LAST_WORDS_MS = 250;

/** Programs over SSH. What the account's profile prints (`echo` in a `.bashrc`) is not taken for theirs. */
export function sshCommands(link: Execs): RemoteCommands {
  return {
    start: async ({ script, args, stdin }, signal) => {
      const preface = `alloy-runner-${randomBytes(8).toString("hex")}`;
      const { line, input } = commandLine(script, args, preface);
      const channel = await link.exec(line, signal);
      if (input !== "") channel.stdin.write(input);
      const stderr = keepTail(channel.stderr);
      const tooLong = new Stop("timed_out", `${link.name} has not started a program within ${START_MS / 1000} s`);
      using limit = deadline(signal, START_MS, tooLong);
      try {
        await skipNoise(channel, preface, link.name, stderr, limit.signal);
      } catch (error) {
        channel.close();
        channel.stdout.destroy();
        signal.throwIfAborted();
        if (error === tooLong) throw new SystemFailure(tooLong.message, { retry: true });
        throw error;
      }
      feed(channel, stdin);
      const exit = exitOf(channel, stderr, signal);
      exit.catch(() => {});
      return { stdout: channel.stdout, exit };
    },
  };
}

interface Tail {
  readonly text: string;
  readonly ended: Promise<void>;
}

function keepTail(stream: Readable): Tail {
  let kept = Buffer.alloc(0);
  stream.on("data", (chunk: Buffer) => {
    kept = Buffer.concat([kept, chunk]).subarray(-MOST_STDERR_BYTES);
  });
  return {
    get text() {
      return kept.toString();
    },
    ended: new Promise((resolve) => {
      stream.once("end", resolve);
      stream.once("close", resolve);
    }),
  };
}

/** Read up to the line that says that the program runs, and leave all behind it in the stream. */
async function skipNoise(
  { stdout, status }: SshChannel,
  preface: string,
  name: string,
  stderr: Tail,
  signal: AbortSignal,
): Promise<void> {
  const wanted = Buffer.from(`${preface}\n`);
  let noise = Buffer.alloc(0);
  await new Promise<void>((resolve, reject) => {
    const settle = (error: Error | null): void => {
      stdout.removeListener("readable", onReadable);
      stdout.removeListener("end", onEnd);
      stdout.removeListener("close", onEnd);
      signal.removeEventListener("abort", onAbort);
      if (error === null) resolve();
      else reject(error);
    };
    const onReadable = (): void => {
      for (let chunk: Buffer | null = stdout.read(); chunk !== null; chunk = stdout.read()) {
        noise = Buffer.concat([noise, chunk]);
        const at = noise.indexOf(wanted);
        if (at >= 0) {
          const rest = noise.subarray(at + wanted.length);
          settle(null);
          if (rest.length > 0) stdout.unshift(rest);
          return;
        }
        if (noise.length > MOST_NOISE_BYTES) {
          settle(new SystemFailure(`A profile of ${name} prints without end instead of starting a program`));
          return;
        }
      }
    };
    const onEnd = (): void => {
      void Promise.allSettled([status, stderr.ended]).then(([result]) => {
        if (result.status === "rejected") return settle(result.reason);
        const said = printable(`${stderr.text} ${noise.toString()}`);
        const hint =
          "Does it have a login shell and sh, or is it bound to a command (ForceCommand, command= of its key)?";
        settle(
          new SystemFailure(
            `${name} did not start a program but ended with status ${result.value.code}${said === "" ? "" : `, saying: ${said.replace(/\.+$/, "")}`}. ${hint}`,
          ),
        );
      });
    };
    const onAbort = (): void => settle(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    stdout.on("readable", onReadable);
    stdout.once("end", onEnd);
    stdout.once("close", onEnd);
  });
}

function printable(text: string): string {
  return text
    .replace(/[^\x20-\x7e]+/g, " ")
    .trim()
    .slice(-300);
}

/** A program may end without reading all of it; whether that matters its status tells. */
function feed({ stdin }: SshChannel, given: Readable | Uint8Array | undefined): void {
  if (given === undefined) stdin.end();
  else if (given instanceof Readable) void pipeline(given, stdin).catch(() => {});
  else stdin.end(given);
}

async function exitOf(channel: SshChannel, stderr: Tail, signal: AbortSignal): Promise<RemoteExit> {
  let timer: NodeJS.Timeout | undefined;
  const ended = async (): Promise<RemoteExit> => {
    const { code } = await channel.status;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LAST_WORDS_MS);
    });
    await Promise.race([stderr.ended, patience]);
    return { code, stderr: stderr.text };
  };
  try {
    return await unlessAborted(ended(), signal);
  } finally {
    clearTimeout(timer);
    if (signal.aborted) {
      channel.close();
      channel.stdout.destroy();
    }
  }
}
