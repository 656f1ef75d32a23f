import type { Log } from "../../src/log.ts";

/** A log that nobody reads. */
export function createLog(): Log {
  const log: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };
  return log;
}
