import { once } from "node:events";
import { createServer } from "node:net";

/** A port of the loopback address that is free now. */
export async function freePort(): Promise<number> {
  const port = await listenOnce(0);
  if (port === null) throw new Error("this machine has no free port");
  return port;
}

export async function isFree(port: number): Promise<boolean> {
  return (await listenOnce(port)) !== null;
}

async function listenOnce(port: number): Promise<number | null> {
  const server = createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
  } catch {
    return null;
  }
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : null;
}
