import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";

export interface SocketHere {
  readonly path: string;
  close(): Promise<void>;
}

/**
 * A socket of this machine, in a private directory, that leads to an engine elsewhere.
 * @param serve is given each connection; what it was sent may end before its answers do
 * @throws {SystemFailure} it cannot be made
 */
export async function openSocketHere(
  address: string,
  scratchDir: string,
  serve: (socket: Socket) => void,
): Promise<SocketHere> {
  const folder = process.platform === "win32" ? null : await mkdtemp(join(scratchDir, "e-"));
  const path = folder === null ? `\\\\.\\pipe\\alloy-runner-${randomBytes(16).toString("hex")}` : join(folder, "s");
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => open.delete(socket));
    serve(socket);
  });
  server.on("error", () => {});
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => resolve());
  }).catch(async (cause: unknown) => {
    if (folder !== null) await rm(folder, { recursive: true, force: true });
    throw new SystemFailure(`Cannot make a socket for the connection to ${address}`, { cause, retry: true });
  });
  // It serves calls that are waited for: it does not keep the process alive by itself.
  server.unref();
  return {
    path,
    close: async () => {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      if (folder !== null) await rm(folder, { recursive: true, force: true });
    },
  };
}
