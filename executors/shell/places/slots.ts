import type { DirectoryLocks } from "./locks.ts";
import { choosePlaces, overlap, type Places, type PlacesOptions } from "./places.ts";

/** A job's claim on its directories; they are free again when it is disposed of. */
export interface Slot extends Disposable {
  /** `CI_CONCURRENT_PROJECT_ID` */
  readonly number: number;
  readonly places: Places;
}

export interface Slots {
  take(options: PlacesOptions): Promise<Slot>;
}

/** Lowest number such that no other job, of this process or another, works in, above or below the same directory. */
export function createSlots(locks: DirectoryLocks): Slots {
  const taken = new Set<string>();
  return {
    take: async (options) => {
      for (let number = 0; ; number++) {
        const places = await choosePlaces(options, number);
        // From here to the claim nothing waits, so two jobs of this process cannot both pass.
        if ([...taken].some((other) => overlap(other, places.claim))) continue;
        const claim = locks.claim(places.claim);
        if (claim === null) continue;
        taken.add(places.claim);
        let held = true;
        return {
          number,
          places,
          [Symbol.dispose]: () => {
            // Only the first call frees them: by the next one another job may have them.
            if (!held) return;
            held = false;
            taken.delete(places.claim);
            claim[Symbol.dispose]();
          },
        };
      }
    },
  };
}
