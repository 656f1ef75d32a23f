import type { Socket } from "node:net";
import { findNative } from "../native.ts";

/** The account of who is at the other end of a socket; `null` where this system or this runtime does not tell. */
export type PeerOf = (socket: Socket) => number | null;

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/**
 * Linux tells who connected. On other systems, and under Node, the rights of the socket and of its directory are the only
 * protection.
 */
export async function findPeers(): Promise<PeerOf> {
  const getsockopt = await findNative("getsockopt", { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" });
  if (getsockopt === null) return () => null;
  return (socket) => {
    const fd = descriptorOf(socket);
    if (fd === undefined) return null;
    // struct ucred: pid, uid, gid.
    const credentials = new Uint32Array(3);
    const length = new Uint32Array([credentials.byteLength]);
    const failed = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length) !== 0;
    return failed || length[0] !== credentials.byteLength ? null : (credentials[1] ?? null);
  };
}

function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, "_handle");
  const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  return typeof fd === "number" && fd >= 0 ? fd : undefined;
}
