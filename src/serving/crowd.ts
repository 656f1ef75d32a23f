import type { Socket } from "node:net";

/** Connections that are in the same position, as many as there is room for. */
export interface Crowd {
  add(socket: Socket): void;
  has(socket: Socket): boolean;
  remove(socket: Socket): void;
  /** Ends all. */
  disperse(): void;
}

interface Place {
  readonly address: string;
  /** Turn of the event loop in which it came. */
  readonly turn: number;
}

/** No connection is ended before the event loop has looked twice for what it has to say. */
const GRACE_TURNS = 2;
/** That rule is given up where so many times `most` come at once. */
const MOST_TIMES = 8;

/**
 * When there are more than `most`, connections are ended: the oldest ones of the address that has the most. So strangers
 * push out only one another, unless they share the address of those whom the server is for, and those have asked by then.
 */
export function createCrowd(most: number): Crowd {
  const byAddress = new Map<string, Set<Socket>>();
  const places = new Map<Socket, Place>();
  let turn = 0;
  let trimming = false;

  const remove = (socket: Socket): void => {
    const place = places.get(socket);
    if (place === undefined) return;
    places.delete(socket);
    const those = byAddress.get(place.address);
    those?.delete(socket);
    if (those?.size === 0) byAddress.delete(place.address);
  };
  const largest = (): Set<Socket> =>
    [...byAddress.values()].reduce((one, other) => (other.size > one.size ? other : one), new Set<Socket>());
  const trim = (): void => {
    trimming = false;
    turn++;
    for (const socket of largest()) {
      const since = places.get(socket)?.turn ?? 0;
      if (places.size <= most || (turn - since < GRACE_TURNS && places.size <= MOST_TIMES * most)) break;
      remove(socket);
      socket.destroy();
    }
    if (places.size > most) trimSoon();
  };
  const trimSoon = (): void => {
    if (trimming) return;
    trimming = true;
    setImmediate(trim);
  };

  return {
    add(socket) {
      const address = socket.remoteAddress ?? "";
      places.set(socket, { address, turn });
      const those = byAddress.get(address) ?? new Set<Socket>();
      byAddress.set(address, those.add(socket));
      if (places.size > most) trimSoon();
    },
    has: (socket) => places.has(socket),
    remove,
    disperse() {
      for (const socket of places.keys()) socket.destroy();
    },
  };
}
