import { beforeAbort } from "../../common/processes/forward.ts";
import type { SshChannel } from "./channel.ts";
import type { SshConnection } from "./connection.ts";

/** One job's way to its host: one connection, and more only where the host allows too few sessions on one. */
export interface Link {
  readonly name: string;
  /** Fires when the job's own connection is gone. */
  readonly lost: AbortSignal;
  /** @throws {SystemFailure} as `SshConnection.exec` */
  exec(command: string, signal: AbortSignal, pty?: boolean): Promise<SshChannel>;
  close(): void;
}

/** With `MaxSessions 1`: one for the claim, one for the script, one for ending it, and one to spare. */
const MOST_CONNECTIONS = 4;

/** @param another logs in once more */
export function createLink(first: SshConnection, another: (signal: AbortSignal) => Promise<SshConnection>): Link {
  const more: SshConnection[] = [];
  let opening: Promise<void> | null = null;
  const life = new AbortController();
  const waiting: (() => void)[] = [];
  let ended = 0;

  /** The one who asks for it first may be stopped while others wait for the same connection. */
  const open = async (): Promise<void> => {
    const connection = await another(life.signal);
    if (life.signal.aborted) connection.close();
    else more.push(connection);
  };

  /** Waits until a program has ended on any of the connections. */
  const nextTurn = async (signal: AbortSignal): Promise<void> => {
    const either = AbortSignal.any([signal, first.lost]);
    either.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => reject(either.reason);
      either.addEventListener("abort", onAbort, { once: true });
      waiting.push(() => {
        either.removeEventListener("abort", onAbort);
        resolve();
      });
    });
  };

  return {
    name: first.name,
    lost: first.lost,
    exec: async (command, signal, pty = false) => {
      for (;;) {
        const before = ended;
        // A second connection's end says nothing of the job; that of the first does, and `tryExec` throws it.
        for (const connection of [first, ...more.filter((one) => !one.lost.aborted)]) {
          const channel = await connection.tryExec(command, signal, pty);
          if (channel === null) continue;
          void channel.closed.then(() => {
            ended++;
            for (const turn of waiting.splice(0)) turn();
          });
          return channel;
        }
        if (more.length + 1 >= MOST_CONNECTIONS) {
          if (ended === before) await nextTurn(signal);
          continue;
        }
        opening ??= open().finally(() => {
          opening = null;
        });
        if ((await beforeAbort(opening, signal)) === "aborted") throw signal.reason;
      }
    },
    close: () => {
      life.abort(new Error("the link is closed"));
      for (const connection of [first, ...more]) connection.close();
    },
  };
}
