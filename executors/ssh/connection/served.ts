import type { Duplex } from "node:stream";
import type { Client, ClientChannel } from "ssh2";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import { pause } from "../../../src/time.ts";
import { PTY, type SshChannel, type Wanted, wrapChannel } from "./channel.ts";
import { watchForSilence } from "./keep-alive.ts";
import { createSessionLimit, type Session } from "./session-limit.ts";

/** A login on a host, with room for several programs at once. */
export interface SshConnection {
  /** `builder@build-07`, with the port where it is not 22. */
  readonly name: string;
  /** Fires once the connection is gone, with the SystemFailure that says why; also after `close`. */
  readonly lost: AbortSignal;
  /**
   * Start `command` by the account's shell, without a terminal unless `pty` says so. Waits while the host allows no further session.
   * @throws {SystemFailure} the connection is gone, or the host refuses sessions altogether
   */
  exec(command: string, signal: AbortSignal, pty?: boolean): Promise<SshChannel>;
  /** The same without waiting: `null` while there is no room. */
  tryExec(command: string, signal: AbortSignal, pty?: boolean): Promise<SshChannel | null>;
  /** A connection from the far host to `host`, port `port`. @throws {SystemFailure} */
  forward(host: string, port: number, signal: AbortSignal): Promise<Duplex>;
  /** A connection to a socket of the far host. @throws {SystemFailure} sshd, or who listens there, does not let us */
  forwardSocket(path: string, signal: AbortSignal): Promise<SshChannel>;
  /** Hang up. Programs that run there are not ended by it. */
  close(): void;
}

/** How long the host may take to forget a session that has just ended. */
const LINGERING_MS = 100;
const LINGERING_ROUNDS = 100;

/** From the login to the end of the connection. */
export function serve(
  client: Client,
  line: Duplex,
  { name, keepAliveMs, maxSessions }: { name: string; keepAliveMs: number; maxSessions: number },
): SshConnection {
  const gone = new AbortController();
  const sessions = createSessionLimit(maxSessions);
  let lastError: Error | null = null;
  const lose = (why: string): void => {
    watch[Symbol.dispose]();
    if (gone.signal.aborted) return;
    gone.abort(
      new SystemFailure(`The connection to ${name} is lost: ${why}`, {
        retry: true,
        reason: "runner_external_dependency_failure",
      }),
    );
  };
  const watch = watchForSilence(line, keepAliveMs, (silentMs) => {
    lose(`the host has been silent for ${Math.round(silentMs / 1000)} s`);
    line.destroy();
  });
  client.on("error", (error) => {
    lastError ??= error;
    line.destroy();
  });
  client.once("end", () => line.destroy());
  client.once("close", () => lose(lastError === null ? "the host hung up" : describeError(lastError)));

  const lostFailure = (): SystemFailure =>
    gone.signal.reason instanceof SystemFailure
      ? gone.signal.reason
      : new SystemFailure(`${name} closed the channel without saying how the program ended`);

  /**
   * `start` calls back once; what comes too late is closed. `take` is called at once, because a short program's status can
   * be in the same packet, and nobody is told of it twice.
   */
  const request = async <T>(
    start: (done: (error: Error | undefined, channel: ClientChannel) => void) => void,
    take: (channel: ClientChannel) => T,
    signal: AbortSignal,
  ): Promise<T> => {
    signal.throwIfAborted();
    gone.signal.throwIfAborted();
    const either = AbortSignal.any([signal, gone.signal]);
    return await new Promise<T>((resolve, reject) => {
      const onAbort = (): void => reject(either.reason);
      either.addEventListener("abort", onAbort, { once: true });
      const done = (error: Error | undefined, channel: ClientChannel | undefined): void => {
        // The library says of a line that has just ended, be it in one direction, no more than that it is not connected.
        if (error !== undefined && !line.writable) lose("the host hung up");
        either.removeEventListener("abort", onAbort);
        if (either.aborted) {
          channel?.on("error", () => {});
          channel?.resume();
          channel?.stderr.resume();
          channel?.close();
        } else if (channel === undefined || error !== undefined) reject(error ?? new Error("no channel"));
        else resolve(take(channel));
      };
      try {
        start((error, channel) => done(error, channel));
      } catch (error) {
        done(error instanceof Error ? error : new Error(String(error)), undefined);
      }
    });
  };

  let opened = 0;
  const attemptExec = async (
    session: Session,
    { command, pty }: Wanted,
    signal: AbortSignal,
  ): Promise<SshChannel | Error> => {
    const take = (channel: ClientChannel): SshChannel => {
      opened++;
      channel.once("close", () => session.free());
      return wrapChannel(channel, gone.signal, lostFailure);
    };
    try {
      return await request(
        (done) => (pty ? client.exec(command, { pty: PTY }, done) : client.exec(command, done)),
        take,
        signal,
      );
    } catch (error) {
      signal.throwIfAborted();
      gone.signal.throwIfAborted();
      return error instanceof Error ? error : new Error(String(error));
    }
  };

  /** `null`: the host has refused it while others of ours are open, which is what exceeding MaxSessions looks like. */
  const start = async (session: Session, wanted: Wanted, signal: AbortSignal): Promise<SshChannel | null> => {
    try {
      for (let round = 0; ; round++) {
        const channel = await attemptExec(session, wanted, signal);
        if (!(channel instanceof Error)) return channel;
        // The host's own reason for not opening a channel, as a number; other failures have none.
        const refused = "reason" in channel;
        if (refused && session.lower()) break;
        // sshd counts a session until it has reaped its program, which is a moment after the channel has closed.
        if (!refused || opened === 0 || round >= LINGERING_ROUNDS) {
          throw new SystemFailure(
            `${name} starts no program: ${describeError(channel)}. Check what the account may do there (ForceCommand, MaxSessions, its shell)`,
            { cause: channel },
          );
        }
        await pause(LINGERING_MS, signal);
      }
    } catch (error) {
      session.free();
      throw error;
    }
    session.free();
    return null;
  };

  return {
    name,
    lost: gone.signal,
    exec: async (command, signal, pty = false) => {
      for (;;) {
        const session = await sessions.take(AbortSignal.any([signal, gone.signal]));
        const channel = await start(session, { command, pty }, signal);
        if (channel !== null) return channel;
      }
    },
    tryExec: async (command, signal, pty = false) => {
      signal.throwIfAborted();
      gone.signal.throwIfAborted();
      const session = sessions.tryTake();
      return session === null ? null : await start(session, { command, pty }, signal);
    },
    forward: async (host, port, signal) => {
      try {
        const take = (channel: ClientChannel): ClientChannel => channel.on("error", () => {});
        return await request((done) => client.forwardOut("127.0.0.1", 0, host, port, done), take, signal);
      } catch (cause) {
        signal.throwIfAborted();
        gone.signal.throwIfAborted();
        throw new SystemFailure(`${name} cannot reach ${host}, port ${port} (AllowTcpForwarding there?)`, {
          cause,
          retry: true,
          reason: "runner_external_dependency_failure",
        });
      }
    },
    forwardSocket: async (path, signal) => {
      try {
        const take = (channel: ClientChannel): SshChannel => wrapChannel(channel, gone.signal, lostFailure);
        return await request((done) => client.openssh_forwardOutStreamLocal(path, done), take, signal);
      } catch (cause) {
        signal.throwIfAborted();
        gone.signal.throwIfAborted();
        throw new SystemFailure(
          `${name} does not let us use its socket ${path} (AllowStreamLocalForwarding, the rights of the account there?)`,
          { cause, retry: true, reason: "runner_external_dependency_failure" },
        );
      }
    },
    close: () => {
      lose("it was closed");
      client.end();
      line.end(() => line.destroy());
    },
  };
}
