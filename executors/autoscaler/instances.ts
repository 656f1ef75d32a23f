import { join } from "node:path";
import { SystemFailure } from "../../src/errors.ts";
import type { EntrySettings, ExecutorDeps } from "../../src/executor/deps.ts";
import { createPool, type Pool, poolMeters } from "../scaler/index.ts";
import { awsProvider } from "./providers/aws/aws.ts";
import { awsSettings } from "./providers/aws/settings.ts";
import { execProvider } from "./providers/exec.ts";
import type { Cloud } from "./providers/instance.ts";
import { staticProvider } from "./providers/static.ts";
import { createKnown } from "./reach/known.ts";
import { type Reached, type ReachSettings, reachable } from "./reach/reach.ts";
import { originOf } from "./settings/plugin.ts";
import { poolSettings } from "./settings/pool-settings.ts";
import type { AutoscalerTable } from "./settings/table.ts";

const WORD = "instance";

/** The instances of an entry. */
export interface Instances {
  /** Made when it is first asked for: from then on instances come and go. */
  readonly pool: Pool<Reached>;
  /** One that a dead job was on; `null`: it is gone, and all that was there with it. */
  find(id: string, signal: AbortSignal): Promise<Reached | null>;
  /** Other settings from now on. @returns `false`: its instances come from elsewhere now, and need a pool of their own */
  configure(table: AutoscalerTable, entry: EntrySettings): boolean;
  /** Calls to the provider that are under way may end until `signal` fires. */
  close(signal: AbortSignal): Promise<void>;
}

/**
 * @param name the executor's, by which what it keeps is told from others'
 * @param onRoom see `Pool`
 */
export function openInstances(given: AutoscalerTable, deps: ExecutorDeps, name: string, onRoom: () => void): Instances {
  const { host, log, entry } = deps;
  const { machines } = entry;
  if (machines === undefined) throw new SystemFailure("Instances belong to an entry, and there is none");
  let table = given;
  let { ephemeral = false } = entry;
  let pool: Pool<Reached> | null = null;
  const dir = join(host.keepDir, `${name}-${machines.runnerId}-${originOf(table.plugin)}`);
  const cloud = cloudOf(() => table, deps);
  const provider = reachable({
    cloud,
    known: createKnown(dir, cloud.lasting),
    settings: () => reachSettings(table),
    workingDirectory: host.working,
    log,
  });
  const openPool = (): Pool<Reached> => {
    const settings = poolSettings(table, ephemeral);
    const made = createPool({ provider, settings, log, dir, word: WORD, events: poolMeters(deps.meter, WORD) });
    made.onRoom(onRoom);
    return made;
  };
  return {
    get pool() {
      pool ??= openPool();
      return pool;
    },
    find: (id, signal) => provider.find(id, signal),
    configure(next, nextEntry) {
      if (originOf(next.plugin) !== originOf(table.plugin)) return false;
      table = next;
      ephemeral = nextEntry.ephemeral ?? false;
      pool?.configure(poolSettings(table, ephemeral));
      return true;
    },
    close: async (signal) => await (pool ?? provider).close(signal),
  };
}

export function reachSettings(table: AutoscalerTable): ReachSettings {
  return {
    connector: table.connector_config,
    readyCommand: table.instance_ready_command,
    readyMs: table.instance_acquire_timeout,
    logInternal: table.log_internal_ip,
    logExternal: table.log_external_ip,
  };
}

/** @param table of one origin, whose settings may change */
export function cloudOf(table: () => AutoscalerTable, { host, log }: ExecutorDeps): Cloud {
  const plugin = () => table().plugin;
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
    case "aws":
      return awsProvider({
        settings: awsSettings(first.config, host.working),
        environment: host.env,
        login: () => {
          const { user, fixed } = table().connector_config;
          return { user, sendsKey: !fixed };
        },
        log,
      });
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
