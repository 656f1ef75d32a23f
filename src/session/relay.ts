import type { WebSocket } from "ws";
import type { Terminal } from "../executor/environment.ts";

export type Protocol = "terminal.gitlab.com" | "base64.terminal.gitlab.com";

/** In the order of liking. */
export const PROTOCOLS: readonly Protocol[] = ["terminal.gitlab.com", "base64.terminal.gitlab.com"];

/** Output that may wait for whoever reads: then the program waits. */
const MOST_WAITING_BYTES = 256 * 1024;
const PING_MS = 30_000;
/** For the other side's answer to the end. */
const FAREWELL_MS = 2000;

/** Close codes of RFC 6455. */
const NORMAL = 1000;
const GOING_AWAY = 1001;

/**
 * Bytes of a terminal to a WebSocket and back, until one of them ends or the signal fires. The faster side waits for the slower.
 * Never rejects.
 */
export async function relay(
  socket: WebSocket,
  terminal: Terminal,
  protocol: Protocol,
  signal: AbortSignal,
): Promise<void> {
  const isText = protocol === "base64.terminal.gitlab.com";
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const { input, output } = terminal;
  input.on("error", () => {});
  output.on("error", () => {});

  let heard = true;
  socket.on("pong", () => {
    heard = true;
  });
  socket.on("error", () => {});
  const pinging = setInterval(() => {
    if (!heard) return socket.terminate();
    heard = false;
    socket.ping();
  }, PING_MS);

  socket.on("message", (data: Buffer) => {
    heard = true;
    const bytes = isText ? Buffer.from(data.toString("latin1"), "base64") : data;
    if (!input.writable || input.write(bytes)) return;
    socket.pause();
    input.once("drain", () => socket.resume()).once("close", () => socket.resume());
  });

  const forward = async (): Promise<void> => {
    for await (const chunk of output) {
      const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
      if (socket.readyState !== socket.OPEN) return;
      const sent = new Promise<void>((resolve) => {
        socket.send(isText ? bytes.toString("base64") : bytes, { binary: !isText }, () => resolve());
      });
      if (socket.bufferedAmount > MOST_WAITING_BYTES) await Promise.race([sent, closed]);
    }
  };
  const stopped = Promise.withResolvers<void>();
  const onAbort = (): void => stopped.resolve();
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([forward().catch(() => {}), closed, stopped.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
    clearInterval(pinging);
    socket.close(signal.aborted ? GOING_AWAY : NORMAL);
    const farewell = setTimeout(() => socket.terminate(), FAREWELL_MS);
    await closed;
    clearTimeout(farewell);
    output.destroy();
  }
}
