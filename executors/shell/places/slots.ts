import type { DirectoryLocks } from "./locks.ts";
import { choosePlaces, overlap, type Places, type PlacesOptions } from "./places.ts";

/** A job's claim on its directories; they are free again when it is disposed of. */
export interface Slot extends Disposable {
  /** `CI_CONCURRENT_PROJECT_ID` */
  readonly number: number;
  readonly places: Places;
}

export interface Slots {
  /** @param rooms see `DirectoryLocks.claim` */
  take(options: PlacesOptions, rooms?: readonly string[]): Promise<Slot>;
  /** The slot that a job has from an earlier process; `null`: somebody else has it. */
  retake(slot: Pick<Slot, "number" | "places">, rooms: readonly string[]): Slot | null;
}

/** Lowest number such that no other job, of this process or another, works in, above or below the same directory. */
export function createSlots(locks: DirectoryLocks): Slots {
  const taken = new Set<string>();
  const claim = (number: number, places: Places, rooms: readonly string[] | undefined): Slot | null => {
    // Nothing waits here, so two jobs of this process cannot both pass.
    if ([...taken].some((other) => overlap(other, places.claim))) return null;
    const claimed = locks.claim(places.claim, rooms);
    if (claimed === null) return null;
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
        claimed[Symbol.dispose]();
      },
    };
  };
  return {
    take: async (options, rooms) => {
      for (let number = 0; ; number++) {
        const slot = claim(number, await choosePlaces(options, number), rooms);
        if (slot !== null) return slot;
      }
    },
    retake: ({ number, places }, rooms) => claim(number, places, rooms),
  };
}
