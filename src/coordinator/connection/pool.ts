import { describeError } from "../../errors.ts";
import type { Connector } from "./connect.ts";
import { Client } from "./http-client.ts";

/** Coordinators (Cowboy, and nginx as AlloyCI sets it up) close an idle connection after 5 s: we must be sooner. */
const IDLE_MS = 3800;
export const HEADER_BYTES = 64 * 1024;

/** One connection, or the wish for one: undici opens it with the first request. */
interface Slot {
  readonly client: Client;
  /** It has answered before, so the other side may have closed it in this moment. */
  readonly used: boolean;
}

/**
 * Connections to one endpoint. Each carries one request at a time; as many are opened as there are requests at once,
 * since a request may be held for a minute. That a request's connection is known is what makes repeating it safe or not.
 */
export interface Pool {
  /** @param fresh whether only a new connection will do */
  take(fresh: boolean): Slot;
  /** Give it back after a complete answer. */
  release(slot: Slot): void;
  /** End it: the exchange on it was broken off. */
  discard(slot: Slot): void;
  /** Idle connections end now, others as soon as they are given back. */
  retire(): void;
}

interface Entry extends Slot {
  used: boolean;
  connected: boolean;
  busy: boolean;
  readonly openedAt: number;
  readonly abort: AbortController;
}

export interface PoolSettings {
  /** Where the HTTP goes: the coordinator, or the proxy for plain HTTP. */
  readonly origin: string;
  readonly connector: Connector;
  /** A connection older than this is not used again, so that a moved load balancer is noticed. */
  readonly maxAgeMs: () => number;
}

export function createPool({ origin, connector, maxAgeMs }: PoolSettings): Pool {
  const entries = new Map<Slot, Entry>();
  const idle: Entry[] = []; // the last one used is the first one taken: the others may end
  let retired = false;

  const drop = (entry: Entry): void => {
    entries.delete(entry);
    const at = idle.indexOf(entry);
    if (at !== -1) idle.splice(at, 1);
    entry.abort.abort();
    entry.client.destroy().catch(() => {});
  };

  const open = (): Entry => {
    const abort = new AbortController();
    const client = new Client(origin, {
      connect: (_options, callback) => {
        connector.open(abort.signal).then(
          (socket) => callback(null, socket),
          // Without a code: undici would try some of them again for ever.
          (error: unknown) => callback(new Error(describeError(error), { cause: error }), null),
        );
      },
      allowH2: false,
      pipelining: 1,
      maxHeaderSize: HEADER_BYTES,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: IDLE_MS,
      keepAliveTimeoutThreshold: 1200, // a server that says 5 s is left after 3.8 s
      headersTimeout: 0, // exchange.ts keeps the time
      bodyTimeout: 0,
    });
    const entry: Entry = { client, used: false, connected: false, busy: true, openedAt: performance.now(), abort };
    client.on("connect", () => {
      entry.connected = true;
    });
    client.on("disconnect", () => {
      entry.connected = false;
      entry.used = false;
      if (!entry.busy) drop(entry);
    });
    entries.set(entry, entry);
    return entry;
  };

  return {
    take(fresh) {
      for (let entry = fresh ? undefined : idle.pop(); entry !== undefined; entry = idle.pop()) {
        if (entry.connected && performance.now() - entry.openedAt < maxAgeMs()) {
          entry.busy = true;
          return entry;
        }
        drop(entry);
      }
      return open();
    },
    release(slot) {
      const entry = entries.get(slot);
      if (entry === undefined) return;
      entry.busy = false;
      if (retired || !entry.connected) {
        drop(entry);
        return;
      }
      entry.used = true;
      idle.push(entry);
    },
    discard(slot) {
      const entry = entries.get(slot);
      if (entry !== undefined) drop(entry);
    },
    retire() {
      retired = true;
      for (const entry of entries.values()) if (!entry.busy) drop(entry);
    },
  };
}
