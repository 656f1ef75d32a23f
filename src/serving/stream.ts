import type { Socket } from "node:net";

/** Fires when the other end does not read any more. */
export function gone(socket: Socket): AbortSignal {
  const controller = new AbortController();
  if (socket.destroyed) controller.abort();
  socket.once("close", () => controller.abort());
  return controller.signal;
}

/** Resolves once what was written has been taken, or the connection has ended; it is ended after `limitMs`. */
export async function drained(socket: Socket, limitMs: number): Promise<void> {
  if (socket.destroyed) return;
  await new Promise<void>((resolve) => {
    const limit = setTimeout(() => socket.destroy(), limitMs);
    const done = (): void => {
      clearTimeout(limit);
      socket.off("drain", done);
      socket.off("close", done);
      resolve();
    };
    socket.on("drain", done);
    socket.on("close", done);
  });
}
