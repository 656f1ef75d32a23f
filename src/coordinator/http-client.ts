import type { Dispatcher } from "undici";
import connect from "undici/lib/api/api-connect.js";
import Client from "undici/lib/dispatcher/client.js";

/**
 * The two modules of undici that are used. Loading all of it would cost each start of the program time and memory; leaving
 * the rest to the bundler would let tests run on methods that the bundle has not.
 */

export type { Dispatcher };
export { Client };

/** `path` is the `host:port` where the tunnel shall lead. */
export type TunnelOptions = Pick<Dispatcher.ConnectOptions, "path" | "headers" | "signal">;

/** Ask the proxy that `client` leads to for a tunnel. With status 200 `socket` is the way through it. */
export function openTunnel(client: Client, options: TunnelOptions): Promise<Dispatcher.ConnectData> {
  return connect.call(client, options);
}
