import type { Socket } from "node:net";

/** Connections that are in the same position, as many as there is room for. */
export interface Crowd {
  /** When that is one too many, another ends: of the address that has most here the one that came first. */
  add(socket: Socket): void;
  has(socket: Socket): boolean;
  remove(socket: Socket): void;
  /** Ends all. */
  disperse(): void;
}

/** Strangers can push out only one another, unless they come from the address of those whom it is for. */
export function createCrowd(most: number): Crowd {
  const byAddress = new Map<string, Set<Socket>>();
  const addresses = new Map<Socket, string>();

  const remove = (socket: Socket): void => {
    const address = addresses.get(socket);
    if (address === undefined) return;
    addresses.delete(socket);
    const those = byAddress.get(address);
    those?.delete(socket);
    if (those?.size === 0) byAddress.delete(address);
  };
  const largest = (): Set<Socket> =>
    [...byAddress.values()].reduce((one, other) => (other.size > one.size ? other : one), new Set<Socket>());

  return {
    add(socket) {
      const address = socket.remoteAddress ?? "";
      addresses.set(socket, address);
      const those = byAddress.get(address) ?? new Set<Socket>();
      byAddress.set(address, those.add(socket));
      if (addresses.size <= most) return;
      const [first] = largest();
      if (first === undefined) return;
      remove(first);
      first.destroy();
    },
    has: (socket) => addresses.has(socket),
    remove,
    disperse() {
      for (const socket of addresses.keys()) socket.destroy();
    },
  };
}
