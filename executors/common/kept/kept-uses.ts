import { join } from "node:path";
import { type ZodType, z } from "zod";
import { type KeptJson, keptJson } from "./kept-json.ts";

/** A use is written down when it is this much later than the one that is. */
const COARSE_MS = 60_000;

/** Hosts that come and go take theirs along, and nobody may ever look after them. */
const MOST_PLACES = 5000;

/** What is known of a place that jobs have left for the next one. */
interface Use {
  /** `Date.now()` of its last use. */
  readonly usedAt: number;
}

/** Such places, by name. */
export interface KeptUses<T extends Use> {
  used(name: string, use: T): void;
  /** All of them, to be changed in place before `save`. */
  known(): Promise<Record<string, T>>;
  save(): Promise<void>;
  /** Writes down the last uses. */
  close(): Promise<void>;
}

interface State<T> {
  readonly file: KeptJson<Record<string, T>>;
  readonly known: Record<string, T>;
}

/** @returns what there is in a directory that lasts: executors of one such directory write to one file of that name */
export function keptUses<T extends Use>(fileName: string, schema: ZodType<T>): (keepDir: string) => KeptUses<T> {
  const states = new Map<string, Promise<State<T>>>();
  return (keepDir) => {
    const open = async (): Promise<State<T>> => {
      const file = keptJson(join(keepDir, fileName), z.record(z.string(), schema));
      return { file, known: (await file.load()) ?? {} };
    };
    const state = async (): Promise<State<T>> => {
      const one = states.get(keepDir) ?? open();
      states.set(keepDir, one);
      return await one;
    };
    return {
      used(name, use) {
        // What is not written down costs the place a little of its age.
        void state()
          .then(async ({ file, known }) => {
            const before = known[name]?.usedAt ?? 0;
            known[name] = use;
            forgetOldest(known);
            if (use.usedAt - before > COARSE_MS) await file.save(known);
          })
          .catch(() => {});
      },
      known: async () => (await state()).known,
      async save() {
        const { file, known } = await state();
        await file.save(known);
      },
      async close() {
        const { file, known } = (await states.get(keepDir)) ?? {};
        if (known !== undefined && Object.keys(known).length > 0) await file?.save(known);
      },
    };
  };
}

function forgetOldest(known: Record<string, Use>): void {
  const names = Object.keys(known);
  if (names.length <= MOST_PLACES) return;
  const byAge = names.sort((a, b) => (known[a]?.usedAt ?? 0) - (known[b]?.usedAt ?? 0));
  // A tenth more, so that not each use sorts them again.
  for (const name of byAge.slice(0, names.length - 0.9 * MOST_PLACES)) delete known[name];
}
