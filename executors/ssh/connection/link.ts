import { beforeAbort } from "../../common/processes/forward.ts";
import type { SshChannel } from "./channel.ts";
import type { SshConnection } from "./connection.ts";

/** One job's way to its host: one connection, and more only where the host allows too few sessions on one. */
export interface Link {
  readonly name: string;
  /** Why the job's own connection is gone; `null`: it is there. */
  lost(): unknown;
  /** @throws {SystemFailure} as `SshConnection.exec` */
  exec(command: string, signal: AbortSignal, pty?: boolean): Promise<SshChannel>;
  /** From now on a new connection takes the place of the job's own where that is gone. */
  keep(): void;
  close(): void;
}

/** With `MaxSessions 1`: one for the claim, one for the script, one for ending it, and one to spare. */
const MOST_CONNECTIONS = 4;

/** @param another logs in once more */
export function createLink(first: SshConnection, another: (signal: AbortSignal) => Promise<SshConnection>): Link {
  let own = first;
  let redials = false;
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

  let dialing: Promise<void> | null = null;
  const redial = async (): Promise<void> => {
    const connection = await another(life.signal);
    if (life.signal.aborted) connection.close();
    else own = connection;
  };

  /** Waits until a program has ended on any of the connections. */
  const nextTurn = async (signal: AbortSignal): Promise<void> => {
    // Programs of a lost connection have ended, too, which begins a turn.
    const either = redials ? signal : AbortSignal.any([signal, own.lost]);
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
    lost: () => (own.lost.aborted ? own.lost.reason : null),
    exec: async (command, signal, pty = false) => {
      for (;;) {
        if (redials && own.lost.aborted && !life.signal.aborted) {
          dialing ??= redial().finally(() => {
            dialing = null;
          });
          if ((await beforeAbort(dialing, signal)) === "aborted") throw signal.reason;
        }
        const before = ended;
        // A second connection's end says nothing of the job; that of the first does, and `tryExec` throws it.
        for (const connection of [own, ...more.filter((one) => !one.lost.aborted)]) {
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
    keep: () => {
      redials = true;
    },
    close: () => {
      life.abort(new Error("the link is closed"));
      for (const connection of [own, ...more]) connection.close();
    },
  };
}
