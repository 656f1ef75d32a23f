import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { pause, unlessAborted } from "../../../src/time.ts";
import { argvOf, type RemoteCommand, type RemoteCommands, type RemoteExit } from "../../remote/index.ts";
import type { Api } from "./client.ts";
import { type ExecChannel, type ExecEnd, openExec } from "./exec.ts";
import { ApiFailure } from "./status.ts";

export interface PodContainer {
  readonly api: Api;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  /** `NAME=value` for what is started, beyond the container's own. */
  readonly env?: readonly string[];
  /** Why no program can be started there any more, or `null`: what the cluster says of pod and container. */
  lost(signal: AbortSignal): Promise<Error | null>;
}

/**
 * The program runs the script and prints its status itself; nothing else proves how it ended. `$1` nonce, `$2` script,
 * then its arguments.
 */
const PROVE = `n=$1 s=$2; shift 2; sh -c "$s" alloy-runner "$@"; c=$?; printf '\\nalloy-runner %s %s\\n' "$n" "$c" >&2; exit "$c"`;

/**
 * Starting a program is tried again for this long while nothing of it was heard, because kubelets and API servers
 * restart.
 */
const START_MS = 30_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;
/**
 * Some channels stay open after their program: they count as ended once its status has come and nothing followed for
 * this long.
 */
const LAST_WORDS_MS = 2000;

/** Programs by exec in a container of a pod. */
export function podCommands(place: PodContainer): RemoteCommands {
  const { container, pod, env = [] } = place;
  const where = `the container "${container}" of the pod ${pod}`;
  return {
    start: async (command, signal) => {
      const nonce = randomBytes(8).toString("hex");
      const argv = provingArgv(nonce, command, env);
      const channel = await openRepeatedly(place, argv, command.stdin !== undefined, signal);
      const feeding = feed(channel, command.stdin);
      const said = lastWord(channel, nonce);
      const exit = exitOf({ channel, said, feeding, where, lost: place.lost }, signal);
      exit.catch(() => {});
      // The reader of the output has to learn that it is not whole.
      void channel.ended.then(async () => {
        const failed = await exit.then(
          () => null,
          (error: unknown) => error,
        );
        if (failed !== null && !channel.stdout.readableEnded) {
          channel.stdout.destroy(failed instanceof Error ? failed : undefined);
        }
      });
      return { stdout: checked(channel.stdout, exit), exit };
    },
  };
}

function provingArgv(nonce: string, command: Pick<RemoteCommand, "script" | "args">, env: readonly string[]): string[] {
  const argv = argvOf({ script: PROVE, args: [nonce, command.script, ...command.args] });
  return env.length === 0 ? argv : ["env", ...env, ...argv];
}

/** The output as a stream that ends only if the program has ended; if the connection was cut, the stream fails. */
function checked(stdout: Readable, exit: Promise<unknown>): Readable {
  async function* whole(): AsyncGenerator<Buffer> {
    yield* stdout;
    await exit;
  }
  const stream = Readable.from(whole(), { objectMode: false, highWaterMark: 64 * 1024 });
  stream.on("error", () => {}).on("close", () => stdout.destroy());
  return stream;
}

async function openRepeatedly(
  place: PodContainer,
  argv: readonly string[],
  stdin: boolean,
  signal: AbortSignal,
): Promise<ExecChannel> {
  const { api, namespace, pod, container } = place;
  const until = performance.now() + START_MS;
  for (let waitMs = FIRST_PAUSE_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_PAUSE_MS)) {
    try {
      return await openExec(api, { namespace, pod, container, argv, stdin }, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ApiFailure)) throw error;
      const gone = error.status === 404 ? await place.lost(signal) : null;
      if (gone !== null) throw gone;
      if (!error.retry || performance.now() > until) throw error;
    }
    await pause(waitMs, signal);
  }
}

/** Hand over stdin and end it. A program that does not read it to its end is no failure. */
async function feed(channel: ExecChannel, stdin: RemoteCommand["stdin"]): Promise<Error | null> {
  if (stdin === undefined) return null;
  if (!(stdin instanceof Readable)) await channel.write(stdin);
  else {
    let over = false;
    void channel.ended.then(() => {
      over = true;
      stdin.destroy();
    });
    try {
      for await (const piece of stdin) await channel.write(piece);
    } catch (error) {
      // Reading the input failed, so the program must not take the part that it got for the whole.
      if (!over) return error instanceof Error ? error : new Error(String(error));
    }
  }
  channel.endInput();
  return null;
}

/** Resolves with the status that the program itself has printed; never resolves if it has printed none. */
function lastWord(channel: ExecChannel, nonce: string): Promise<RemoteExit> {
  const word = new RegExp(`\\nalloy-runner ${nonce} (\\d{1,3})\\n`);
  return new Promise((resolve) => {
    channel.onStderr(() => {
      const [line, code] = word.exec(channel.stderr()) ?? [];
      if (line !== undefined) resolve({ code: Number(code), stderr: channel.stderr().replace(line, "") });
    });
  });
}

interface Watched {
  readonly channel: ExecChannel;
  readonly said: Promise<RemoteExit>;
  readonly feeding: Promise<Error | null>;
  readonly where: string;
  readonly lost: PodContainer["lost"];
}

async function exitOf({ channel, said, feeding, where, lost }: Watched, signal: AbortSignal): Promise<RemoteExit> {
  const ofInput = feeding.then((error) => {
    if (error === null) return new Promise<never>(() => {});
    throw error;
  });
  // Everything that came before the channel's end has been read by now.
  const ofChannel = channel.ended.then(async (end): Promise<RemoteExit> => {
    const word = await Promise.race([said, Promise.resolve(null)]);
    if (word !== null) return word;
    throw (await lost(signal)) ?? cutOff(end, where);
  });
  for (const one of [ofInput, ofChannel]) one.catch(() => {});
  try {
    const exit = await unlessAborted(Promise.race([said, ofInput, ofChannel]), signal);
    const closing = setInterval(() => {
      if (channel.idleMs() > LAST_WORDS_MS) channel.close();
    }, LAST_WORDS_MS / 4);
    void channel.ended.then(() => clearInterval(closing));
    return exit;
  } catch (error) {
    channel.close();
    throw error;
  }
}

function cutOff(end: ExecEnd, where: string): SystemFailure {
  const how =
    end.kind === "status"
      ? `the cluster says that it ended with status ${end.code}, and the program itself does not`
      : end.said;
  return new SystemFailure(`The connection to ${where} was lost while a program ran there: ${how}`, { retry: true });
}
