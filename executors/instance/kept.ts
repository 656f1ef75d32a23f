import type { KeepBudgets, Tidied } from "../../src/executor/keeping.ts";
import type { Reached } from "../autoscaler/index.ts";
import { type Claim, createKeptCopies, hostsWithCopies, sshCommands } from "../ssh/over-ssh.ts";

/** Working copies that the jobs of an entry have left on its instances. */
export interface KeptOnInstances {
  used(instance: string, runnerId: string, claim: Claim): void;
  /** What was on an instance that is gone is forgotten; one that cannot be asked is named as what stays. */
  tidy(options: TidyInstancesOptions, signal: AbortSignal): Promise<Tidied[]>;
  /** Writes down the last uses. */
  close(): Promise<void>;
}

export interface TidyInstancesOptions {
  readonly budgets: KeepBudgets;
  readonly dry: boolean;
  /** `null`: there is no such instance any more. */
  readonly find: (instance: string, signal: AbortSignal) => Promise<Reached | null>;
}

/** Instances that are looked at side by side. */
const AT_ONCE = 4;

/** @param pool tells the entry's instances from those of others */
export function createKeptOnInstances(keepDir: string, pool: string): KeptOnInstances {
  const prefix = `instance of ${pool}: `;
  const on = (instance: string) => createKeptCopies(keepDir, prefix + instance, `instance ${instance}`);

  const tidyOn = async (instance: string, { budgets, dry, find }: TidyInstancesOptions, signal: AbortSignal) => {
    const copies = on(instance);
    let gone = false;
    const within = async (work: (commands: ReturnType<typeof sshCommands>) => Promise<Tidied[]>): Promise<Tidied[]> => {
      const reached = await find(instance, signal);
      gone = reached === null;
      if (reached === null) return [];
      const connection = await reached.logIn(0, signal);
      try {
        return await work(sshCommands(connection));
      } finally {
        connection.close();
      }
    };
    const tidied = await copies.tidy({ budgets, dry, within }, signal);
    if (gone) await copies.forget();
    return tidied;
  };

  return {
    used: (instance, runnerId, claim) => on(instance).used(runnerId, claim),
    async tidy(options, signal) {
      const hosts = (await hostsWithCopies(keepDir)).filter((host) => host.startsWith(prefix));
      const waiting = hosts.map((host) => host.slice(prefix.length));
      const tidied: Tidied[] = [];
      const work = async (): Promise<void> => {
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
          tidied.push(...(await tidyOn(next, options, signal)));
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      return tidied;
    },
    close: () => on("").close(),
  };
}
