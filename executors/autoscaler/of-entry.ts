import { SystemFailure } from "../../src/errors.ts";
import type { EntrySettings, ExecutorDeps } from "../../src/executor/deps.ts";
import type { Executor } from "../../src/executor/executor.ts";
import { type Instances, openInstances } from "./instances.ts";
import { tableOf } from "./settings/table.ts";

/** The instances of an entry's executor: opened with the first question or job, and its part in what every executor does. */
export interface EntryInstances
  extends Required<Pick<Executor, "reserve" | "onRoom" | "closeMs" | "reconfigure" | "diagnose" | "close">> {
  /** @throws {SystemFailure} the entry is gone from the configuration, and nobody knows how its instances are reached */
  get(): Instances;
}

/** Calls to the provider that are under way may end before the runner does. */
const CLOSE_MS = 120_000;

/** @param name the executor's */
export function instancesOf(
  { autoscaler }: Readonly<Record<string, unknown>>,
  given: ExecutorDeps,
  name: string,
): EntryInstances {
  let table = tableOf(autoscaler);
  let { entry } = given;
  let wake = (): void => {};
  let opened: Instances | null = null;
  const get = (): Instances => {
    if (opened === null) {
      if (table === null) throw new SystemFailure("the entry of its instances is gone from the configuration");
      opened = openInstances(table, { ...given, entry }, name, () => wake());
    }
    return opened;
  };
  return {
    get,
    closeMs: CLOSE_MS,
    reserve: async (signal) => await get().pool.reserve(signal),
    onRoom: (to) => {
      wake = to;
    },
    reconfigure(tables, nextEntry: EntrySettings) {
      const next = tableOf(tables.autoscaler);
      if (next === null || opened?.configure(next, nextEntry) === false) return false;
      table = next;
      entry = nextEntry;
      return true;
    },
    diagnose: async (_, signal) => {
      if (table === null) throw new SystemFailure("there is no table [runners.autoscaler]");
      const { diagnoseInstances } = await import("./diagnose.ts");
      return { state: await diagnoseInstances(table, { ...given, entry }, signal) };
    },
    async close(signal) {
      await opened?.close(signal);
    },
  };
}
