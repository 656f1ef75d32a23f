import { SystemFailure } from "../../../src/errors.ts";
import type { Cloud, InstanceConnection } from "./instance.ts";

/**
 * Hosts that are always there, by their names. "More" and "fewer" of them is which ones jobs get: one that was let go of is had
 * anew, with nothing counted against it.
 */
export function staticProvider(hosts: () => ReadonlyMap<string, InstanceConnection>): Cloud {
  const inUse = new Set<string>();
  const hostOf = (id: string): InstanceConnection => {
    const host = hosts().get(id);
    if (host === undefined) throw new SystemFailure(`There is no host ${id} in plugin_config any more`);
    return host;
  };
  return {
    lasting: true,
    init: async () => {},
    exists: async (id) => hosts().has(id),
    list: async () => [...inUse].map((id) => ({ id, state: "running" })),
    async grow(count) {
      const free = [...hosts().keys()].filter((id) => !inUse.has(id)).slice(0, count);
      for (const id of free) inUse.add(id);
      return free.length;
    },
    async shrink(ids) {
      for (const id of ids) inUse.delete(id);
    },
    connect: async (id) => hostOf(id),
    check: async (id) => void hostOf(id),
    close: async () => {},
  };
}
