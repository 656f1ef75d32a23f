import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { keptJson } from "../../common/kept/kept-json.ts";
import type { Clock } from "../decide/contract.ts";
import type { Instance } from "../decide/fleet.ts";

const pastSchema = z.object({
  /** Jobs that it has had. */
  uses: z.number(),
  /** Time of day since which nobody works on it. */
  idleSince: z.number(),
});

/** What instances have been through, on disk, so that a restart keeps them with their age and their jobs counted. */
export interface Past {
  load(): Promise<void>;
  /** Of one that the process before knew; by the clock of this one. */
  of(id: string): { readonly uses: number; readonly idleSince: number } | null;
  save(instances: readonly Instance[]): Promise<void>;
}

export function createPast(dir: string, clock: Clock): Past {
  const file = keptJson(join(dir, "instances.json"), z.record(z.string(), pastSchema));
  const known = new Map<string, z.infer<typeof pastSchema>>();
  return {
    async load() {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      for (const [id, past] of Object.entries((await file.load()) ?? {})) known.set(id, past);
    },
    of(id) {
      const past = known.get(id);
      if (past === undefined) return null;
      // A clock that was put back makes nothing younger than now.
      const age = Math.max(0, clock.wall() - past.idleSince);
      return { uses: past.uses, idleSince: clock.now() - age };
    },
    async save(instances) {
      const wall = clock.wall() - clock.now();
      const past = instances.map(({ id, uses, idleSince }) => [id, { uses, idleSince: Math.round(wall + idleSince) }]);
      await file.save(Object.fromEntries(past));
    },
  };
}
