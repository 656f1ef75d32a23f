import type { Socket } from "node:net";
import { describeError } from "../../src/errors.ts";
import type { Log } from "../../src/log.ts";
import type { Reached } from "../autoscaler/index.ts";
import { openSocketHere } from "../docker/index.ts";
import type { SshChannel } from "../ssh/over-ssh.ts";
import { createDial } from "./dial.ts";

/** A socket of this machine that leads to an instance's engine, for one job. */
export interface Tunnel {
  /** `unix:///…` */
  readonly host: string;
  /** What was said last of a connection that came to nothing; or empty. */
  complaint(): string;
  /** To be called once. The last one who lets go of it closes it. */
  free(): Promise<void>;
}

/** One way to each instance's engine, which its jobs share. */
export interface Tunnels {
  /** @param dockerHost where the engine is on the instance; empty: where it is by default */
  to(instance: Reached, dockerHost: string): Promise<Tunnel>;
}

/** How long an instance that was ready may be away. */
const PATIENCE_MS = 10_000;

export function createTunnels(scratchDir: string, log: Log): Tunnels {
  const known = new Map<string, Shared>();

  const open = async (instance: Reached, dockerHost: string): Promise<Opened> => {
    const { id } = instance;
    const way = createDial(dockerHost, (signal) => instance.logIn(PATIENCE_MS, signal));
    const { path, close } = await openSocketHere(`the instance ${id}`, scratchDir, (socket) => {
      way.dial().then(
        (far) => carry(socket, far),
        (error: unknown) => {
          log.debug("the engine of an instance cannot be reached", { instance: id, problem: describeError(error) });
          socket.destroy();
        },
      );
    });
    return {
      host: `unix://${path}`,
      complaint: () => way.complaint(),
      close: async () => {
        await close();
        way.close();
      },
    };
  };

  return {
    async to(instance, dockerHost) {
      const key = JSON.stringify([instance.id, dockerHost]);
      const shared = known.get(key) ?? { opened: open(instance, dockerHost), users: 0 };
      known.set(key, shared);
      shared.users++;
      const free = async (): Promise<void> => {
        if (--shared.users > 0) return;
        known.delete(key);
        await (await shared.opened).close();
      };
      try {
        const { host, complaint } = await shared.opened;
        return { host, complaint, free };
      } catch (error) {
        shared.users--;
        known.delete(key);
        throw error;
      }
    },
  };
}

interface Opened extends Omit<Tunnel, "free"> {
  close(): Promise<void>;
}

interface Shared {
  readonly opened: Promise<Opened>;
  users: number;
}

/** Both ways, each to its own end. */
function carry(socket: Socket, { stdin, stdout, stderr, close }: SshChannel): void {
  stderr.resume();
  socket.once("close", close);
  stdout.once("close", () => {
    if (!stdout.readableEnded) socket.destroy();
    // Nobody reads what else is sent.
    socket.resume();
  });
  socket.pipe(stdin);
  stdout.pipe(socket);
  if (socket.destroyed) close();
}
