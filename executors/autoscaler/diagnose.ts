import { describeError, SystemFailure } from "../../src/errors.ts";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import { cloudOf, reachSettings } from "./instances.ts";
import type { KnownInstances } from "./reach/known.ts";
import { reachable } from "./reach/reach.ts";
import type { AutoscalerTable } from "./settings/table.ts";

const PATIENCE_MS = 5000;
/** Of many hosts these many show whether the login is right. */
const MOST_TRIED = 10;
const CLOSE_MS = 5000;

/** Nothing that was learnt is kept. */
const forgetful: KnownInstances = {
  load: async () => {},
  of: () => ({ hostKey: null, ready: false }),
  learn: async () => {},
  keepOnly: async () => {},
};

/**
 * What stands behind an entry's instances: that its plugin answers, and, of hosts that are always there, that they let the entry
 * log in. Instances of a cloud may still be booting, so nobody logs in to these.
 * @throws {SystemFailure} no job could run
 */
export async function diagnoseInstances(
  table: AutoscalerTable,
  deps: ExecutorDeps,
  signal: AbortSignal,
): Promise<string> {
  const { plugin } = table;
  const cloud = cloudOf(() => table, deps);
  try {
    await cloud.init(signal);
    if (plugin.name !== "static") {
      const { length } = await cloud.list(signal);
      return `plugin "${plugin.name}" answers: it has ${length === 1 ? "1 instance" : `${length} instances`}`;
    }
    const { working: workingDirectory } = deps.host;
    const settings = (): ReturnType<typeof reachSettings> => reachSettings(table);
    const provider = reachable({ cloud, known: forgetful, settings, workingDirectory, log: deps.log });
    const hosts = [...plugin.hosts.keys()].slice(0, MOST_TRIED);
    const tried = await Promise.all(
      hosts.map(async (id) => {
        try {
          const reached = await provider.find(id, signal);
          (await reached?.logIn(PATIENCE_MS, signal))?.close();
          return [];
        } catch (error) {
          signal.throwIfAborted();
          return [`${id}: ${describeError(error)}`];
        }
      }),
    );
    const [problem] = tried.flat();
    if (problem !== undefined) throw new SystemFailure(problem);
    return `${hosts.length === 1 ? "its host lets" : `${hosts.length} hosts let`} it log in`;
  } finally {
    await cloud.close(AbortSignal.timeout(CLOSE_MS));
  }
}
