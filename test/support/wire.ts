import { once } from "node:events";
import { createServer, connect as dial, type Socket } from "node:net";

/** A TCP proxy that can behave like a bad line. */
export interface Wire {
  readonly port: number;
  /** Number of connections so far. */
  readonly count: number;
  /** Resets all connections. */
  cut(): void;
  /** Sends nothing more in both directions, but does not hang up. New connections get no answer, either. */
  blackHole(): void;
  /** Cuts each connection once that many bytes have come from the server. */
  cutAfter(bytes: number): void;
  /** Changes one bit of each connection, that many bytes after now from the server. */
  garbleAfter(bytes: number): void;
  /** Refuses new connections by closing them at once. */
  refuse(on: boolean): void;
  /** Lets new connections through again, unchanged. */
  heal(): void;
  close(): Promise<void>;
}

export interface WireOptions {
  /** How long each piece is held back. */
  readonly delayMs?: number;
  readonly bytesPerSecond?: number;
}

export async function openWire(target: { host: string; port: number }, options: WireOptions = {}): Promise<Wire> {
  const { delayMs = 0, bytesPerSecond = Infinity } = options;
  const sockets = new Set<Socket>();
  const timers = new Set<NodeJS.Timeout>();
  let silent = false;
  let refusing = false;
  let count = 0;
  let limit = Infinity;
  const garble: ((bytes: number) => void)[] = [];

  const later = (ms: number, action: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      action();
    }, ms);
    timers.add(timer);
  };
  const pump = (from: Socket, to: Socket, onBytes: (chunk: Buffer) => boolean): void => {
    from.on("data", (chunk: Buffer) => {
      if (silent || !onBytes(chunk)) return;
      const ms = delayMs + (chunk.length / bytesPerSecond) * 1000;
      if (ms === 0) {
        if (!to.write(chunk)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
        return;
      }
      from.pause();
      later(ms, () => {
        if (!silent && !to.destroyed) to.write(chunk);
        from.resume();
      });
    });
    from.on("end", () => {
      if (!silent) later(delayMs, () => to.end());
    });
    from.on("close", () => {
      sockets.delete(from);
      if (!silent) later(delayMs, () => to.destroy());
    });
    from.on("error", () => {});
  };

  const server = createServer({ allowHalfOpen: true }, (client) => {
    count++;
    client.on("error", () => {});
    if (refusing) return void client.destroy();
    sockets.add(client);
    if (silent) return;
    const upstream = dial({ ...target, allowHalfOpen: true });
    sockets.add(upstream);
    let received = 0;
    let untouched = Infinity;
    garble.push((bytes) => {
      untouched = bytes;
    });
    pump(client, upstream, () => true);
    pump(upstream, client, (chunk) => {
      received += chunk.length;
      if (untouched < chunk.length) chunk[untouched] = (chunk[untouched] ?? 0) ^ 1;
      untouched = untouched < chunk.length ? Infinity : untouched - chunk.length;
      if (received < limit) return true;
      client.resetAndDestroy();
      upstream.destroy();
      return false;
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    port,
    get count() {
      return count;
    },
    cut: () => {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    blackHole: () => {
      silent = true;
    },
    cutAfter: (bytes) => {
      limit = bytes;
    },
    garbleAfter: (bytes) => {
      for (const one of garble) one(bytes);
    },
    refuse: (on) => {
      refusing = on;
    },
    heal: () => {
      silent = false;
      refusing = false;
      limit = Infinity;
    },
    close: async () => {
      for (const timer of timers) clearTimeout(timer);
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
