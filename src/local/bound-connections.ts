import type { Server } from "node:http";

/** The runner itself needs some for each of its jobs. */
const MOST_CONNECTIONS = 1000;
/** From the first byte of a request to the end of its headers. */
const HEADERS_LIMIT_MS = 10_000;

/**
 * Bounds the connections of a server that other accounts of this machine reach, too. Bun ends by itself, within seconds,
 * those that never ask for anything; Node lets them be.
 */
export function boundConnections(server: Server): void {
  server.maxConnections = MOST_CONNECTIONS;
  server.headersTimeout = HEADERS_LIMIT_MS;
  // Bodies and packs may take their time.
  server.requestTimeout = 0;
}
