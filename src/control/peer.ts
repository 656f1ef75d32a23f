import type { Socket } from "node:net";

/** The account of who is at the other end of a socket; `null` where this system or this runtime does not tell. */
export type PeerOf = (socket: Socket) => number | null;

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/** glibc, and musl under the names that Alpine and others have for it. */
const LIBRARIES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so"];

/**
 * Linux tells who connected, though neither runtime has a call for it. Bun, which releases are built on, can call the C
 * library. On other systems the rights of the socket and of its directory are the only protection.
 */
export async function findPeers(): Promise<PeerOf> {
  const getsockopt = await findGetsockopt();
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

type Getsockopt = (fd: number, level: number, option: number, value: Uint32Array, length: Uint32Array) => number;

async function findGetsockopt(): Promise<Getsockopt | null> {
  if (process.platform !== "linux" || Reflect.get(globalThis, "Bun") === undefined) return null;
  // The name stands in a variable, because bundler and compiler would look for a module that does not exist there.
  const name = "bun:ffi";
  const ffi: unknown = await import(name).catch(() => null);
  if (!hasDlopen(ffi)) return null;
  for (const library of LIBRARIES) {
    try {
      const { symbols } = ffi.dlopen(library, {
        getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
      });
      return symbols.getsockopt;
    } catch {
      // This machine does not have the library.
    }
  }
  return null;
}

interface Ffi {
  dlopen(
    library: string,
    functions: Readonly<Record<"getsockopt", object>>,
  ): { readonly symbols: { getsockopt: Getsockopt } };
}

function hasDlopen(module: unknown): module is Ffi {
  return typeof module === "object" && module !== null && "dlopen" in module && typeof module.dlopen === "function";
}
