import { chmod } from "node:fs/promises";
import type { Log } from "../log.ts";
import type { Door, OpenDoor } from "./door.ts";
import { findPeers } from "./peer.ts";
import { makePlace, socketAddress, socketPath } from "./place.ts";

/**
 * A socket, or on Windows a pipe.
 * @throws {ConfigError} its directory cannot be trusted, or its path is too long
 */
export const openDoorHere: OpenDoor = async (stateDir, log) => {
  if (process.platform !== "win32") return await openSocketDoor(stateDir, log);
  const { openPipeDoor } = await import("./pipe.ts");
  return await openPipeDoor(stateDir, log);
};

async function openSocketDoor(stateDir: string, log: Log): Promise<Door> {
  await makePlace(stateDir);
  const peerOf = await findPeers();
  const address = socketAddress(stateDir);
  return {
    path: address.path,
    opened: () => chmod(socketPath(stateDir), 0o600),
    async admits(socket) {
      const uid = peerOf(socket);
      if (uid === null || uid === 0 || uid === process.geteuid?.()) return true;
      log.warn("another account reached the control socket and was turned away", { uid });
      return false;
    },
    closed: async () => address[Symbol.dispose](),
  };
}
