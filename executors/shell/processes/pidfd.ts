import { closeSync } from "node:fs";

/** One process, whatever becomes of its number. */
interface ProcessHandle extends Disposable {
  /** Whether this process still has it; it may be gone, or somebody else's. */
  signal(number: number): boolean;
}

/** `null`: there is no such process, or the kernel (before 5.3) has no handles. */
export type OpenProcess = (pid: number) => ProcessHandle | null;

/** The C library's function of that name, with one number and four arguments. */
type SystemCall = (...args: readonly [bigint, bigint, bigint, bigint, bigint]) => unknown;

/** System calls; these have the same numbers on all kinds of machines. */
const PIDFD_SEND_SIGNAL = 424n;
const PIDFD_OPEN = 434n;

/** glibc, and musl under the names that Alpine and others have for it. */
const LIBRARIES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so"];

let finding: Promise<OpenProcess | null> | undefined;

/**
 * Linux's handles of processes, which neither runtime has a call for. Bun, which releases are built on, can call the C library;
 * under Node, and where that fails, `null`: then who sends a signal can but look at the start time just before.
 */
export async function findProcessHandles(): Promise<OpenProcess | null> {
  finding ??= find();
  return await finding;
}

async function find(): Promise<OpenProcess | null> {
  if (process.platform !== "linux" || Reflect.get(globalThis, "Bun") === undefined) return null;
  const syscall = await findSystemCall();
  if (syscall === null) return null;
  return (pid) => {
    const fd = Number(syscall(PIDFD_OPEN, BigInt(pid), 0n, 0n, 0n));
    if (fd < 0) return null;
    return {
      signal: (number) => Number(syscall(PIDFD_SEND_SIGNAL, BigInt(fd), BigInt(number), 0n, 0n)) === 0,
      [Symbol.dispose]: () => closeSync(fd),
    };
  };
}

async function findSystemCall(): Promise<SystemCall | null> {
  // As a variable: for bundler and compiler it is a module that does not exist.
  const name = "bun:ffi";
  const ffi: unknown = await import(name).catch(() => null);
  if (!hasDlopen(ffi)) return null;
  for (const library of LIBRARIES) {
    try {
      const { symbols } = ffi.dlopen(library, {
        syscall: { args: ["i64", "i64", "i64", "i64", "i64"], returns: "i64" },
      });
      return symbols.syscall;
    } catch {
      // Not on this machine.
    }
  }
  return null;
}

interface Ffi {
  dlopen(
    library: string,
    functions: Readonly<Record<"syscall", object>>,
  ): { readonly symbols: { syscall: SystemCall } };
}

function hasDlopen(module: unknown): module is Ffi {
  return typeof module === "object" && module !== null && "dlopen" in module && typeof module.dlopen === "function";
}
