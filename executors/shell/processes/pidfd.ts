import { closeSync } from "node:fs";
import { findNative } from "../../../src/native.ts";

/** One process, whatever becomes of its number. */
interface ProcessHandle extends Disposable {
  /** Whether this process still has it; it may be gone, or somebody else's. */
  signal(number: number): boolean;
}

/** `null`: there is no such process, or the kernel (before 5.3) has no handles. */
export type OpenProcess = (pid: number) => ProcessHandle | null;

/** System calls; these have the same numbers on all kinds of machines. */
const PIDFD_SEND_SIGNAL = 424n;
const PIDFD_OPEN = 434n;

let finding: Promise<OpenProcess | null> | undefined;

/**
 * Linux's handles of processes. Under Node, and where the C library is not found, `null`: then who sends a signal can but
 * look at the start time just before.
 */
export async function findProcessHandles(): Promise<OpenProcess | null> {
  finding ??= find();
  return await finding;
}

async function find(): Promise<OpenProcess | null> {
  const syscall = await findNative("syscall", { args: ["i64", "i64", "i64", "i64", "i64"], returns: "i64" });
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
