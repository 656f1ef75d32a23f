import { closeSync, openSync } from "node:fs";
import { chmod, lstat, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../errors.ts";

/** Longest path that every system takes as the address of a socket. */
const LONGEST_PATH = 100;

/** The directory of the socket or of the key to the pipe, in the state directory: only the runner's account may enter it. */
export function controlDir(stateDir: string): string {
  return join(stateDir, "control");
}

export function socketPath(stateDir: string): string {
  return join(controlDir(stateDir), "socket");
}

/** What a client has to read before it can find the pipe of Windows. */
export function pipeFile(stateDir: string): string {
  return join(controlDir(stateDir), "pipe.json");
}

/** A path under which a socket can be opened and reached, as long as it is not disposed of. */
export interface SocketAddress extends Disposable {
  readonly path: string;
}

/**
 * @throws {ConfigError} the path is longer than this system's sockets take
 */
export function socketAddress(stateDir: string): SocketAddress {
  const path = socketPath(stateDir);
  if (Buffer.byteLength(path) <= LONGEST_PATH) return { path, [Symbol.dispose]: () => {} };
  if (process.platform !== "linux") {
    throw new ConfigError(`${path} is too long for a socket (${LONGEST_PATH} bytes). Set a shorter state_dir`);
  }
  // The same directory under a short name.
  const fd = openSync(controlDir(stateDir), "r");
  return { path: `/proc/self/fd/${fd}/socket`, [Symbol.dispose]: () => closeSync(fd) };
}

/**
 * Makes or takes over the directory (0700), and removes the socket of a dead process: only one process uses a state
 * directory.
 * @throws {ConfigError} it is not what it should be, and somebody else may have made it
 */
export async function makePlace(stateDir: string): Promise<void> {
  const dir = controlDir(stateDir);
  await mkdir(dir, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  const found = await lstat(dir);
  if (!found.isDirectory()) throw new ConfigError(`${dir} is no directory. Remove it`);
  if (found.uid !== process.geteuid?.()) throw new ConfigError(`${dir} belongs to another account. Remove it`);
  if ((found.mode & 0o077) !== 0) await chmod(dir, 0o700);
  await rm(socketPath(stateDir), { force: true });
}
