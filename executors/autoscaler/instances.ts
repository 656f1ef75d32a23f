import { join } from "node:path";
import { SystemFailure } from "../../src/errors.ts";
import type { EntrySettings, ExecutorDeps } from "../../src/executor-deps.ts";
import { createPool, type Pool } from "../scaler/index.ts";
import { execProvider } from "./providers/exec.ts";
import type { Cloud } from "./providers/instance.ts";
import { staticProvider } from "./providers/static.ts";
import { createKnown } from "./reach/known.ts";
import { type Reached, type ReachSettings, reachable } from "./reach/reach.ts";
import type { Plugin } from "./settings/plugin.ts";
import { poolSettings } from "./settings/pool-settings.ts";
import type { AutoscalerTable } from "./settings/table.ts";

/** The instances of an entry. */
export interface Instances {
  readonly pool: Pool<Reached>;
  /** One that a dead job was on; `null`: it is gone, and all that was there with it. */
  find(id: string, signal: AbortSignal): Promise<Reached | null>;
  /** Other settings from now on. @returns `false`: its instances come from elsewhere now, and need a pool of their own */
  configure(table: AutoscalerTable, entry: EntrySettings): boolean;
}

/** @param name the executor's, by which what it keeps is told from others' */
export function openInstances(given: AutoscalerTable, deps: ExecutorDeps, name: string): Instances {
  const { host, log, entry } = deps;
  const { machines, ephemeral = false } = entry;
  if (machines === undefined) throw new SystemFailure("Instances belong to an entry, and there is none");
  let table = given;
  const dir = join(host.keepDir, `${name}-${machines.runnerId}-${table.plugin.name}`);
  const cloud = cloudOf(() => table.plugin, deps);
  const provider = reachable({
    cloud,
    known: createKnown(dir, cloud.lasting),
    settings: () => reachSettings(table),
    workingDirectory: host.working,
    log,
  });
  const pool = createPool({ provider, settings: poolSettings(table, ephemeral), log, dir, word: "instance" });
  return {
    pool,
    find: (id, signal) => provider.find(id, signal),
    configure(next, nextEntry) {
      if (next.plugin.name !== table.plugin.name) return false;
      table = next;
      pool.configure(poolSettings(table, nextEntry.ephemeral ?? false));
      return true;
    },
  };
}

function reachSettings(table: AutoscalerTable): ReachSettings {
  return {
    connector: table.connector_config,
    readyCommand: table.instance_ready_command,
    readyMs: table.instance_acquire_timeout,
    logInternal: table.log_internal_ip,
    logExternal: table.log_external_ip,
  };
}

/** @param plugin of one name, whose settings may change */
function cloudOf(plugin: () => Plugin, { host }: ExecutorDeps): Cloud {
  const first = plugin();
  switch (first.name) {
    case "exec": {
      let current = first.settings;
      return execProvider(() => {
        const next = plugin();
        if (next.name === "exec") current = next.settings;
        return current;
      }, host.env);
    }
    case "static": {
      let current = first.hosts;
      return staticProvider(() => {
        const next = plugin();
        if (next.name === "static") current = next.hosts;
        return current;
      });
    }
  }
}
