import { SystemFailure } from "../../../src/errors.ts";
import type { Provider } from "../../scaler/index.ts";
import type { InstanceConnection } from "./instance.ts";

/**
 * Hosts that are always there, by their names. "More" and "fewer" of them is which ones jobs get: one that was let go of is had
 * anew, with nothing counted against it.
 */
export function staticProvider(
  hosts: ReadonlyMap<string, InstanceConnection>,
  reach: Reach,
): Provider<InstanceConnection> {
  const inUse = new Set<string>();
  return {
    init: async () => {},
    list: async () => [...inUse].map((id) => ({ id, state: "running" })),
    async grow(count) {
      const free = [...hosts.keys()].filter((id) => !inUse.has(id)).slice(0, count);
      for (const id of free) inUse.add(id);
      return free.length;
    },
    async shrink(ids) {
      for (const id of ids) inUse.delete(id);
    },
    async connect(id) {
      const host = hosts.get(id);
      if (host === undefined) throw new SystemFailure(`There is no host ${id} in plugin_config`);
      return host;
    },
    check: async (_, connection, signal) => await reach(connection, signal),
    close: async () => {},
  };
}

/** @throws {SystemFailure} nobody answers there */
export type Reach = (connection: InstanceConnection, signal: AbortSignal) => Promise<void>;
