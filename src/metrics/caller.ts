import { readFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { isLoopback } from "../serving/address.ts";

type Ends = Pick<Socket, "remoteAddress" | "remotePort" | "localAddress" | "localPort">;

/** Linux's tables of connections, in which each of this machine has a line for either end. */
const TABLES = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/** Established, or half closed by who has asked. */
const OPEN_STATES: ReadonlySet<string> = new Set(["01", "04", "05"]);

/**
 * Whether the program at the other end is one of this machine that works for root or for this process's account. Only Linux tells.
 * Jobs that run as somebody else are no such programs.
 */
export async function isOwnCaller(ends: Ends): Promise<boolean> {
  const account = process.geteuid?.();
  if (account === undefined || !isLoopback(plain(ends.remoteAddress))) return false;
  const tables = await Promise.all(TABLES.map((path) => readFile(path, "latin1").catch(() => "")));
  const accounts = tables.flatMap((table) => accountsOf(table, ends));
  return accounts.length > 0 && accounts.every((uid) => uid === 0 || uid === account);
}

/** A listener of both families shows callers by IPv4 so. */
function plain(address: string | undefined): string {
  return (address ?? "").replace(/^::ffff:/i, "");
}

/** Accounts of those whose own end is the other end of ours. */
function accountsOf(table: string, { remoteAddress, remotePort, localAddress, localPort }: Ends): number[] {
  const theirs = namesOf(plain(remoteAddress), remotePort);
  const ours = namesOf(plain(localAddress), localPort);
  return table.split("\n").flatMap((line) => {
    const [, from = "", to = "", state = "", , , , uid = "", , inode = ""] = line.trim().split(/\s+/);
    const is = theirs.includes(from) && ours.includes(to) && OPEN_STATES.has(state);
    // A connection without an inode belongs to nobody any more, and nobody reads its answer.
    return is && inode !== "0" && /^\d+$/.test(uid) ? [Number(uid)] : [];
  });
}

/** As the kernel writes an address of the loopback: words of 32 bits in the order of this machine's bytes. */
function namesOf(address: string, port = 0): string[] {
  const behind = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const word = (...bytes: readonly number[]): string =>
    Buffer.from(littleEndian ? [...bytes].reverse() : bytes)
      .toString("hex")
      .toUpperCase();
  const none = word(0, 0, 0, 0);
  if (address.includes(":")) return [none + none + none + word(0, 0, 0, 1) + behind];
  const four = word(...address.split(".").map(Number));
  return [four + behind, none + none + word(0, 0, 255, 255) + four + behind];
}

const littleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
