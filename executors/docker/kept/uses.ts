import type { KeptRecord } from "./record.ts";

/** What jobs of this process work with now: as long as one does, it is not removed. */
export interface Uses {
  readonly record: KeptRecord;
  forJob(): JobUses;
  isImageHeld(id: string): boolean;
  isVolumeHeld(name: string): boolean;
  /** `body` removes something: no job looks for anything meanwhile, and it looks after the body. */
  removing<T>(body: () => Promise<T>): Promise<T>;
}

/** What one job works with, until `end`. */
export interface JobUses {
  /** `body` looks for an image and says which one it found: it is not removed in between. */
  image<T extends HeldImage>(body: () => Promise<T>): Promise<T>;
  volumes(names: readonly string[]): Promise<void>;
  end(): void;
}

interface HeldImage {
  readonly id: string;
  /** By which the runner has pulled it. */
  readonly names: readonly string[];
  /** `new`: it was not there before. */
  readonly pulled?: "new" | "known";
}

export function createUses(record: KeptRecord): Uses {
  const images = new Map<string, number>();
  const volumes = new Map<string, number>();
  /** Jobs that look for something. */
  const looking = new Set<Promise<unknown>>();
  let removal: Promise<unknown> | null = null;

  const hold = (counts: Map<string, number>, key: string): void => void counts.set(key, (counts.get(key) ?? 0) + 1);
  const leave = (counts: Map<string, number>, key: string): void => {
    const left = (counts.get(key) ?? 0) - 1;
    if (left > 0) counts.set(key, left);
    else counts.delete(key);
  };
  const look = async <T>(body: () => Promise<T>): Promise<T> => {
    while (removal !== null) await removal.catch(() => {});
    const work = body();
    looking.add(work);
    try {
      return await work;
    } finally {
      looking.delete(work);
    }
  };

  return {
    record,
    isImageHeld: (id) => images.has(id),
    isVolumeHeld: (name) => volumes.has(name),
    async removing(body) {
      while (looking.size > 0 || removal !== null) {
        await Promise.allSettled([...looking, ...(removal === null ? [] : [removal])]);
      }
      const work = body();
      removal = work;
      try {
        return await work;
      } finally {
        removal = null;
      }
    },
    forJob() {
      const mine: [Map<string, number>, string][] = [];
      let ended = false;
      const take = (counts: Map<string, number>, key: string): void => {
        if (ended) return;
        hold(counts, key);
        mine.push([counts, key]);
      };
      return {
        image: async (body) =>
          await look(async () => {
            const found = await body();
            take(images, found.id);
            if (found.pulled === "new") await record.brought(found.id, found.names);
            else record.used(found.id, found.names);
            return found;
          }),
        volumes: async (names) =>
          await look(async () => {
            for (const name of names) {
              take(volumes, name);
              record.usedVolume(name);
            }
          }),
        end() {
          if (ended) return;
          ended = true;
          for (const [counts, key] of mine) {
            leave(counts, key);
            if (counts === images) record.used(key, []);
            else record.usedVolume(key);
          }
        },
      };
    },
  };
}
